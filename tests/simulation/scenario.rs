//! Scenario: the settings of the world and the timed operations. The text format has one operation
//! per line, so that failing scenarios can be stored in `fixtures/scenarios`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use p2p_node_protocol::{Priority, Route};

/// Properties of all links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    pub least: Duration,
    pub most: Duration,
    /// Messages in a thousand that are lost, arrive twice, or arrive late.
    pub loss: u32,
    pub twice: u32,
    pub late: u32,
}

/// How a DHT server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honesty {
    Honest,
    Silent,
    Lying,
}

/// An operation of a scenario. Nodes have numbers; those below `servers` serve the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Random commands of all parents: this many in a hundred seconds.
    Traffic(u32),
    /// Messages from one node to another.
    Burst {
        from: usize,
        to: usize,
        count: u32,
        bytes: usize,
        priority: Priority,
        route: Route,
        ttl: Duration,
    },
    /// Separates the nodes of this range from all others.
    Partition {
        first: usize,
        last: usize,
    },
    Heal,
    /// Ends the connection of two nodes, which may connect again.
    Disconnect(usize, usize),
    /// `kill -9`.
    Crash(usize),
    /// Starts a node with its store or a fresh one, on its port or a new one.
    Start {
        node: usize,
        same_store: bool,
        new_addr: bool,
    },
    /// Copies the store.
    Snapshot(usize),
    /// `kill -9`, and restores the last copy of the store, if any.
    Rollback(usize),
    /// End of stdin.
    Eof(usize),
    /// Changes the wall clock by this many ms.
    Clock(usize, i64),
    /// Suspends the machine: both its clocks run on, and the node does nothing.
    Suspend(usize, Duration),
    /// Stops and resumes the reading of the parent.
    PauseReader(usize),
    ResumeReader(usize),
    Serve(usize, Honesty),
    /// Replays this many earlier frames to their recipients and to others.
    Replay(u32),
    /// Tasks in a thousand that the crypto pool refuses.
    Pool(u32),
    /// Crashes in a hundred minutes, each followed by a start within a minute.
    Churn(u32),
    Links(Links),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub seed: u64,
    pub nodes: usize,
    pub servers: usize,
    pub links: Links,
    /// End of the operations. Then all faults end, and the final invariants are checked.
    pub run: Duration,
    pub operations: Vec<(Duration, Operation)>,
}

impl Scenario {
    /// Returns `true` if each node does what its program says: nobody lies or replays frames, and no
    /// disk goes back, which makes a node sign the same numbers twice.
    pub fn is_honest(&self) -> bool {
        self.operations.iter().all(|(_, operation)| {
            let is_liar = matches!(operation, Operation::Serve(_, Honesty::Lying));
            !is_liar && !matches!(operation, Operation::Rollback(_) | Operation::Replay(_))
        })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "nodes {} servers {}", self.nodes, self.servers)?;
        writeln!(f, "{}", self.links)?;
        writeln!(f, "run {}ms", self.run.as_millis())?;
        for (at, operation) in &self.operations {
            writeln!(f, "{}ms {operation}", at.as_millis())?;
        }
        Ok(())
    }
}

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (self.least.as_millis(), self.most.as_millis());
        write!(f, "links {least}ms to {most}ms loss {} twice {} late {}", self.loss, self.twice, self.late)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Traffic(rate) => write!(f, "traffic {rate}"),
            Operation::Burst { from, to, count, bytes, priority, route, ttl } => write!(
                f,
                "burst {from} to {to} count {count} bytes {bytes} {} {} ttl {}ms",
                name(PRIORITIES, *priority),
                name(ROUTES, *route),
                ttl.as_millis()
            ),
            Operation::Partition { first, last } => write!(f, "partition {first} to {last}"),
            Operation::Heal => write!(f, "heal"),
            Operation::Disconnect(one, other) => write!(f, "disconnect {one} from {other}"),
            Operation::Crash(node) => write!(f, "crash {node}"),
            Operation::Start { node, same_store, new_addr } => {
                let store = if *same_store { "same_store" } else { "fresh_store" };
                let addr = if *new_addr { "new_addr" } else { "same_addr" };
                write!(f, "start {node} {store} {addr}")
            }
            Operation::Snapshot(node) => write!(f, "snapshot {node}"),
            Operation::Rollback(node) => write!(f, "rollback {node}"),
            Operation::Eof(node) => write!(f, "eof {node}"),
            Operation::Clock(node, by) => write!(f, "clock {node} by {by}"),
            Operation::Suspend(node, time) => write!(f, "suspend {node} for {}ms", time.as_millis()),
            Operation::PauseReader(node) => write!(f, "pause_reader {node}"),
            Operation::ResumeReader(node) => write!(f, "resume_reader {node}"),
            Operation::Serve(node, honesty) => write!(f, "serve {node} {}", name(HONESTIES, *honesty)),
            Operation::Replay(count) => write!(f, "replay {count}"),
            Operation::Pool(busy) => write!(f, "pool {busy}"),
            Operation::Churn(rate) => write!(f, "churn {rate}"),
            Operation::Links(links) => write!(f, "{links}"),
        }
    }
}

const PRIORITIES: &[(&str, Priority)] =
    &[("low", Priority::Low), ("medium", Priority::Medium), ("high", Priority::High)];
const ROUTES: &[(&str, Route)] =
    &[("auto", Route::Auto), ("direct", Route::Direct), ("gossip", Route::Gossip)];
const HONESTIES: &[(&str, Honesty)] =
    &[("honest", Honesty::Honest), ("silent", Honesty::Silent), ("lying", Honesty::Lying)];

fn name<T: PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, named)| *named == value).expect("every value has a name").0
}

/// The words of a line, read from left to right.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| "the line is too short".to_owned())
    }

    fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("{word:?} is not a valid number"))
    }

    fn time(&mut self) -> Result<Duration, String> {
        let word = self.word()?;
        let digits = word.strip_suffix("ms").ok_or_else(|| format!("{word:?} must end in ms"))?;
        digits.parse().map(Duration::from_millis).map_err(|_| format!("{word:?} is not a time"))
    }

    /// Reads a fixed word and the number after it.
    fn named<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        self.skip(name)?;
        self.number()
    }

    fn skip(&mut self, name: &str) -> Result<(), String> {
        let word = self.word()?;
        if word == name { Ok(()) } else { Err(format!("expected {name:?}, found {word:?}")) }
    }

    fn one_of<T: Copy>(&mut self, names: &[(&str, T)]) -> Result<T, String> {
        let word = self.word()?;
        let found = names.iter().find(|(name, _)| *name == word);
        found.map(|(_, value)| *value).ok_or_else(|| format!("unknown word {word:?}"))
    }

    fn links(&mut self) -> Result<Links, String> {
        let least = self.time()?;
        self.skip("to")?;
        let most = self.time()?;
        let (loss, twice, late) = (self.named("loss")?, self.named("twice")?, self.named("late")?);
        Ok(Links { least, most, loss, twice, late })
    }

    fn operation(&mut self) -> Result<Operation, String> {
        Ok(match self.word()? {
            "traffic" => Operation::Traffic(self.number()?),
            "burst" => Operation::Burst {
                from: self.number()?,
                to: self.named("to")?,
                count: self.named("count")?,
                bytes: self.named("bytes")?,
                priority: self.one_of(PRIORITIES)?,
                route: self.one_of(ROUTES)?,
                ttl: self.skip("ttl").and_then(|()| self.time())?,
            },
            "partition" => Operation::Partition { first: self.number()?, last: self.named("to")? },
            "heal" => Operation::Heal,
            "disconnect" => Operation::Disconnect(self.number()?, self.named("from")?),
            "crash" => Operation::Crash(self.number()?),
            "start" => Operation::Start {
                node: self.number()?,
                same_store: self.one_of(&[("same_store", true), ("fresh_store", false)])?,
                new_addr: self.one_of(&[("new_addr", true), ("same_addr", false)])?,
            },
            "snapshot" => Operation::Snapshot(self.number()?),
            "rollback" => Operation::Rollback(self.number()?),
            "eof" => Operation::Eof(self.number()?),
            "clock" => Operation::Clock(self.number()?, self.named("by")?),
            "suspend" => Operation::Suspend(self.number()?, self.skip("for").and_then(|()| self.time())?),
            "pause_reader" => Operation::PauseReader(self.number()?),
            "resume_reader" => Operation::ResumeReader(self.number()?),
            "serve" => Operation::Serve(self.number()?, self.one_of(HONESTIES)?),
            "replay" => Operation::Replay(self.number()?),
            "pool" => Operation::Pool(self.number()?),
            "churn" => Operation::Churn(self.number()?),
            "links" => Operation::Links(self.links()?),
            other => return Err(format!("unknown operation {other:?}")),
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Scenario, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut lines = lines.map(|line| (line, Words(line.split_whitespace())));
        let mut next = || lines.next().ok_or_else(|| "the scenario is too short".to_owned());
        let (_, mut words) = next()?;
        let seed = words.named("seed")?;
        let (_, mut words) = next()?;
        let (nodes, servers) = (words.named("nodes")?, words.named("servers")?);
        let (_, mut words) = next()?;
        let links = words.skip("links").and_then(|()| words.links())?;
        let (_, mut words) = next()?;
        let run = words.skip("run").and_then(|()| words.time())?;
        let operations = lines.map(|(line, mut words)| {
            let at = words.time().map_err(|error| format!("{line:?}: {error}"))?;
            Ok((at, words.operation().map_err(|error| format!("{line:?}: {error}"))?))
        });
        Ok(Scenario {
            seed,
            nodes,
            servers,
            links,
            run,
            operations: operations.collect::<Result<_, String>>()?,
        })
    }
}
