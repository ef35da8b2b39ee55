//! Finds out from the file why the system cannot run a binary. Reads a few bytes, and only after a
//! start has failed.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::fs::{Access, access};

use crate::Error;

/// The reason why the system cannot run a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BinaryReason {
    /// The file does not exist.
    Missing,
    /// The path is a directory, or another object that is not a file.
    NotAFile,
    /// The user has no permission to execute or to read the file.
    NotExecutable,
    /// The file system of the file is mounted with `noexec`.
    Noexec,
    /// The file is empty.
    Empty,
    /// The file is truncated.
    Truncated,
    /// The file is for another processor or another operating system.
    WrongArchitecture,
    /// The file is for another C library.
    MissingLoader,
    /// The file is a script whose interpreter does not exist.
    MissingInterpreter,
    /// The file is neither a program nor a script.
    NotAProgram,
}

impl fmt::Display for BinaryReason {
    /// Returns the stable name, such as `not_executable`. All SDKs use the same names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BinaryReason::Missing => "missing",
            BinaryReason::NotAFile => "not_a_file",
            BinaryReason::NotExecutable => "not_executable",
            BinaryReason::Noexec => "noexec",
            BinaryReason::Empty => "empty",
            BinaryReason::Truncated => "truncated",
            BinaryReason::WrongArchitecture => "wrong_architecture",
            BinaryReason::MissingLoader => "missing_loader",
            BinaryReason::MissingInterpreter => "missing_interpreter",
            BinaryReason::NotAProgram => "not_a_program",
        })
    }
}

/// Texts that the loaders of glibc and musl write if a library does not match the program.
const LOADER_ERRORS: [&str; 4] =
    ["GLIBC_", "GLIBCXX_", "error while loading shared libraries", "Error relocating"];

/// Exits of a damaged program, or of one that a shell runs as a script: SIGILL, SIGBUS (Linux,
/// macOS), SIGSEGV, and the exit codes of a shell.
const SUSPECT_SIGNALS: [i32; 4] = [4, 7, 10, 11];
const SUSPECT_CODES: [i32; 3] = [0, 126, 127];

/// The first bytes of files of other systems: Mach-O and PE.
const FOREIGN: [(&[u8], &str); 4] = [
    (b"\xcf\xfa\xed\xfe", "macos"),
    (b"\xce\xfa\xed\xfe", "macos"),
    (b"\xca\xfe\xba\xbe", "macos"),
    (b"MZ", "windows"),
];

const PT_INTERP: u64 = 3;

/// The longest path of an interpreter in bytes: Linux's PATH_MAX.
const MAX_PATH: u64 = 4096;

const INCOMPLETE: &str = "the file is incomplete: install it again";

type Fault = (BinaryReason, String);

/// Returns the error for a program that the system did not start, or `None` if the file is valid.
pub(crate) fn unusable(program: &Path, cwd: Option<&Path>, error: &io::Error) -> Option<Error> {
    let path = resolve(program, cwd);
    let (reason, advice) = fault(&path)?;
    let message = format!("{advice} ({error})");
    Some(Error::BinaryUnusable { path, reason, message, stderr_tail: String::new() })
}

/// Returns the error for a program that ended without output, or `None` if the file is valid.
pub(crate) fn unusable_after(
    program: &Path,
    cwd: Option<&Path>,
    exit: ExitStatus,
    stderr_tail: &str,
) -> Option<Error> {
    let path = resolve(program, cwd);
    let (reason, advice) = if LOADER_ERRORS.iter().any(|words| stderr_tail.contains(words)) {
        let advice =
            "it needs other libraries than this system has: use the build for this system's C library";
        (BinaryReason::MissingLoader, advice.to_owned())
    } else if exit.signal().is_some_and(|signal| SUSPECT_SIGNALS.contains(&signal))
        || exit.code().is_some_and(|code| SUSPECT_CODES.contains(&code))
    {
        fault(&path)?
    } else {
        return None;
    };
    let (message, stderr_tail) = (format!("{advice} ({exit})"), stderr_tail.to_owned());
    Some(Error::BinaryUnusable { path, reason, message, stderr_tail })
}

/// Returns the file that the system runs. The system searches PATH for a name without a slash, and
/// resolves a path from the directory of the process.
fn resolve(program: &Path, cwd: Option<&Path>) -> PathBuf {
    if program.components().count() > 1 || program.as_os_str().as_bytes().contains(&b'/') {
        return cwd.unwrap_or(Path::new("")).join(program);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|place| place.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| program.to_owned())
}

fn fault(path: &Path) -> Option<Fault> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Some(unreadable(&error)),
        Err(_) => return Some((BinaryReason::Missing, "the file does not exist".to_owned())),
    };
    if !metadata.is_file() {
        return Some((BinaryReason::NotAFile, "it is not a file".to_owned()));
    }
    // Check this first: on such a file system no file is executable.
    if is_noexec(path) {
        return Some((
            BinaryReason::Noexec,
            "its file system is mounted with `noexec`: move it to another file system".to_owned(),
        ));
    }
    if access(path, Access::EXEC_OK).is_err() {
        return Some((
            BinaryReason::NotExecutable,
            format!("it is not executable: run chmod +x {}", path.display()),
        ));
    }
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return Some(unreadable(&error)),
    };
    content_fault(&mut file, metadata.len())
}

fn unreadable(error: &io::Error) -> Fault {
    (BinaryReason::NotExecutable, format!("it cannot be read ({error})"))
}

#[cfg(target_os = "linux")]
fn is_noexec(path: &Path) -> bool {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    statvfs(path).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

#[cfg(not(target_os = "linux"))]
fn is_noexec(_: &Path) -> bool {
    false
}

fn content_fault(file: &mut (impl Read + Seek), size: u64) -> Option<Fault> {
    if size == 0 {
        return Some((BinaryReason::Empty, "the file is empty: install it again".to_owned()));
    }
    let mut start = Vec::new();
    if file.take(256).read_to_end(&mut start).is_err() {
        return None;
    }
    if let Some((_, system)) = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        let is_foreign = *system != env::consts::OS;
        return is_foreign
            .then(|| (BinaryReason::WrongArchitecture, format!("it is a program for {system}")));
    }
    if let Some(script) = start.strip_prefix(b"#!") {
        let line = script.split(|byte| *byte == b'\n').next()?;
        let interpreter =
            line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).map(OsStr::from_bytes)?;
        let is_missing = !Path::new(interpreter).exists();
        let advice =
            || format!("it is a script, and its interpreter {} does not exist", interpreter.display());
        return is_missing.then(|| (BinaryReason::MissingInterpreter, advice()));
    }
    if !start.starts_with(b"\x7fELF") {
        return Some((
            BinaryReason::NotAProgram,
            "it is neither a program nor a script: install it again".to_owned(),
        ));
    }
    let checked = check_elf(file, &start, size);
    checked.unwrap_or_else(|| Err((BinaryReason::Truncated, INCOMPLETE.to_owned()))).err()
}

/// Returns the `e_machine` number of ELF for Rust's name of a processor.
fn machine_number(name: &str) -> Option<u64> {
    Some(match name {
        "x86" => 3,
        "powerpc64" => 21,
        "s390x" => 22,
        "arm" => 40,
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        _ => return None,
    })
}

/// Reads the numbers of an ELF file in the byte order of the file.
struct Elf<'a> {
    bytes: &'a [u8],
    is_little: bool,
}

impl Elf<'_> {
    /// Returns the number of `length` bytes at `at`, or `None` if the file ends before.
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(length)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if self.is_little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    }
}

/// Checks an ELF file, which is `size` bytes long and begins with `start`. Returns its fault, or
/// `None` if the file is truncated.
fn check_elf(file: &mut (impl Read + Seek), start: &[u8], size: u64) -> Option<Result<(), Fault>> {
    let (is_wide, is_little) = (*start.get(4)? == 2, *start.get(5)? == 1);
    let header = Elf { bytes: start, is_little };
    let ours = env::consts::ARCH;
    if machine_number(ours).is_some_and(|ours| header.number(18, 2) != Some(ours)) {
        header.number(18, 2)?;
        let advice = format!("it is a program for another processor than this {ours}");
        return Some(Err((BinaryReason::WrongArchitecture, advice)));
    }
    let (word, counts) = if is_wide { (8, 54) } else { (4, 42) };
    let programs = header.number(24 + word, word)?;
    let sections = header.number(24 + 2 * word, word)?;
    let [program_size, program_count, section_size, section_count] =
        [0, 2, 4, 6].map(|at| header.number(counts + at, 2));
    let (program_size, program_count) = (program_size?, program_count?);
    let ends = [(sections, section_size? * section_count?), (programs, program_size * program_count)];
    if ends.iter().any(|(at, length)| at.saturating_add(*length) > size) {
        return None;
    }
    for number in 0..program_count {
        let entry = read_at(file, programs + program_size * number, if is_wide { 40 } else { 20 })?;
        let entry = Elf { bytes: &entry, is_little };
        let (offset_at, length_at) = if is_wide { (8, 32) } else { (4, 16) };
        let (offset, length) = (entry.number(offset_at, word)?, entry.number(length_at, word)?);
        if offset.saturating_add(length) > size {
            return None;
        }
        if entry.number(0, 4)? == PT_INTERP && length <= MAX_PATH {
            let loader = read_at(file, offset, length)?;
            let loader = loader.split(|byte| *byte == 0).next().map(OsStr::from_bytes)?;
            if !Path::new(loader).exists() {
                let advice = "use the build for this system's C library";
                let advice = format!("its loader {} does not exist here: {advice}", loader.display());
                return Some(Err((BinaryReason::MissingLoader, advice)));
            }
        }
    }
    Some(Ok(()))
}

fn read_at(file: &mut (impl Read + Seek), at: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at)).ok()?;
    file.take(length).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == length).then_some(bytes)
}

#[cfg(test)]
mod tests;
