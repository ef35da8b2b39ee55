//! The region file: bootstrap peers of a network by region, as JSON. The node reads the file again
//! when it changes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use p2p_node_core::peers::bootstrap::{MAX_BOOTSTRAPS, parse_bootstrap};
use p2p_node_core::source::{Regions, SourceEvent};

/// Maximum size of the file in bytes: our choice, 64 addresses of 1 KiB.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// Maximum length of the name of a region, in bytes: as long as that of a network.
const MAX_NAME_BYTES: usize = 32;
/// Interval at which the node looks if the file has changed: our choice. It costs one `stat`, which
/// also sees a file that another one replaces through a link.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The content of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    network: String,
    regions: BTreeMap<String, Vec<String>>,
}

/// What distinguishes two versions of a file: its device, inode, size, and the time of its last
/// change.
type Version = (u64, u64, u64, i64, i64);

/// The region file of a node.
#[derive(Debug)]
pub struct RegionFile {
    path: PathBuf,
    network: String,
    version: Option<Version>,
    ticks: Interval,
    look: Option<JoinHandle<Look>>,
}

/// The version of the file, and its content if the version is new.
type Look = (Option<Version>, Option<Result<Regions, String>>);

impl RegionFile {
    /// Reads a file. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Returns what is wrong with the file, for people.
    pub fn open(path: &Path, network: &str) -> Result<(Self, Regions), String> {
        let version = version(path);
        let regions = read(path, network)?;
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (path, network) = (path.to_owned(), network.to_owned());
        Ok((RegionFile { path, network, version, ticks, look: None }, regions))
    }

    /// Waits until the file has changed. Cancel-safe.
    pub async fn changed(&mut self) -> SourceEvent {
        loop {
            let Some(look) = &mut self.look else {
                self.ticks.tick().await;
                let (path, network, known) = (self.path.clone(), self.network.clone(), self.version);
                self.look = Some(tokio::task::spawn_blocking(move || {
                    let found = version(&path);
                    (found, (found != known).then(|| read(&path, &network)))
                }));
                continue;
            };
            let looked = look.await;
            self.look = None;
            // Fails only if the task panicked, which ends the process.
            let Ok((version, content)) = looked else { continue };
            self.version = version;
            match content {
                None => {}
                Some(Ok(regions)) => return SourceEvent::Regions(regions),
                Some(Err(reason)) => {
                    let reason = format!("{reason}; the node keeps the earlier content");
                    return SourceEvent::Failed { reason };
                }
            }
        }
    }
}

fn version(path: &Path) -> Option<Version> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
}

/// Reads the regions of a network.
fn read(path: &Path, network: &str) -> Result<Regions, String> {
    let wrong = |reason: String| format!("the region file {}: {reason}", path.display());
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    parse(&text, network).map_err(wrong)
}

fn parse(text: &str, network: &str) -> Result<Regions, String> {
    let content: Content = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if content.network != network {
        return Err(format!("it is for the network `{}`, but this node is on `{network}`", content.network));
    }
    let mut regions = Regions::new();
    for (name, addrs) in content.regions {
        region_name(&name)?;
        let peers = addrs.iter().map(|addr| parse_bootstrap(addr)).collect::<Result<_, _>>()?;
        regions.insert(name, peers);
    }
    let peers: usize = regions.values().map(Vec::len).sum();
    if peers > MAX_BOOTSTRAPS {
        return Err(format!("it has {peers} addresses, and at most {MAX_BOOTSTRAPS} are possible"));
    }
    Ok(regions)
}

/// Checks the name of a region.
///
/// # Errors
/// Returns the requirement that the name violates.
pub fn region_name(name: &str) -> Result<String, String> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len());
    if fits && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        return Ok(name.to_owned());
    }
    Err(format!("the name of a region must be 1 to {MAX_NAME_BYTES} characters of a-z, 0-9 and -"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn content(network: &str, region: &str, addrs: usize) -> String {
        let addrs: Vec<String> =
            (0..addrs).map(|port| format!("/ip4/127.0.0.1/tcp/{port}/p2p/{PEER}")).collect();
        serde_json::json!({ "network": network, "regions": { region: addrs, "sea": [] } }).to_string()
    }

    #[test]
    fn regions_have_names_and_bootstrap_addresses() {
        let regions = parse(&content("dev", "us-east", 2), "dev").expect("regions");
        assert_eq!(regions.keys().collect::<Vec<_>>(), ["sea", "us-east"]);
        assert_eq!(regions["us-east"].len(), 2);
        assert_eq!(regions["us-east"][0].0.to_string(), PEER);
    }

    #[test]
    fn invalid_content_is_refused_with_its_reason() {
        for (text, reason) in [
            (content("main", "sea", 1), "it is for the network `main`"),
            (content("dev", "US East", 1), "the name of a region"),
            (content("dev", "us-east", MAX_BOOTSTRAPS + 1), "at most 64 are possible"),
            (content("dev", "us-east", 1).replace("/p2p/", "/p2q/"), "not a multiaddr"),
            ("{".to_owned(), "EOF"),
            (r#"{"network":"dev","regions":{},"region":{}}"#.to_owned(), "unknown field"),
        ] {
            let error = parse(&text, "dev").expect_err(&text);
            assert!(error.contains(reason), "{error}");
        }
    }

    #[tokio::test]
    async fn changed_file_is_read_again_and_a_damaged_one_is_reported() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("regions.json");
        assert!(RegionFile::open(&path, "dev").expect_err("missing").contains("regions.json"));
        fs::write(&path, content("dev", "us-east", 1)).expect("written");
        let (mut file, regions) = RegionFile::open(&path, "dev").expect("opened");
        assert_eq!(regions["us-east"].len(), 1);
        fs::write(&path, content("dev", "us-east", 3)).expect("written");
        let SourceEvent::Regions(regions) = file.changed().await else { panic!("no regions") };
        assert_eq!(regions["us-east"].len(), 3);
        fs::write(&path, "{").expect("written");
        let SourceEvent::Failed { reason } = file.changed().await else { panic!("no failure") };
        assert!(reason.contains("keeps the earlier content"), "{reason}");
    }

    proptest! {
        #[test]
        fn any_text_is_regions_within_the_limits_or_refused(
            text in prop_oneof![
                ".{0,80}",
                "\\{\"network\":\"(dev|main)\",\"regions\":\\{(\"[a-zA-Z-]{0,40}\":\\[(\"/ip4/[0-9.]{7,9}/tcp/[0-9]{1,6}\")?\\])?\\}\\}",
            ],
        ) {
            if let Ok(regions) = parse(&text, "dev") {
                prop_assert!(regions.keys().all(|name| region_name(name).is_ok()));
                prop_assert!(regions.values().map(Vec::len).sum::<usize>() <= MAX_BOOTSTRAPS);
            }
        }
    }
}
