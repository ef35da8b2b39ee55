//! Sources of peers outside of libp2p: executes the requests of the core and returns the reports.

use std::time::Duration;

use super::dns_seeds::DnsSeeds;
use super::peer_book::PeerBook;
use super::regions::RegionFile;
use super::rendezvous::Rendezvous;
use p2p_node_core::input::Input;
use p2p_node_core::source::{SourceCommand, SourceEvent};

/// Maximum time of [`Sources::close`]: our choice. Reading a small directory and writing a small file
/// take milliseconds.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// The sources of a node.
#[derive(Debug, Default)]
pub struct Sources {
    /// The rendezvous directory, unless it is off or not available.
    pub rendezvous: Option<Rendezvous>,
    /// The peer book, if there is a data directory.
    pub peer_book: Option<PeerBook>,
    /// The region file, if the configuration names one.
    pub regions: Option<RegionFile>,
    /// The DNS seeds, if the configuration names any.
    pub dns_seeds: Option<DnsSeeds>,
}

impl Sources {
    /// Starts to execute a request. [`Sources::next`] returns its results.
    pub fn execute(&mut self, command: SourceCommand) {
        match command {
            SourceCommand::WritePeerBook(peers) => {
                if let Some(book) = &mut self.peer_book {
                    book.write(peers);
                }
            }
            SourceCommand::QueryDnsSeeds => {
                if let Some(seeds) = &mut self.dns_seeds {
                    seeds.start_query();
                }
            }
            command => {
                if let Some(rendezvous) = &mut self.rendezvous {
                    rendezvous.execute(command);
                }
            }
        }
    }

    /// Waits for the next report. Cancel-safe.
    pub async fn next(&mut self) -> Input {
        Input::Source(tokio::select! {
            event = next_local(&mut self.rendezvous) => event,
            event = next_regions(&mut self.regions) => event,
            event = next_seeds(&mut self.dns_seeds) => event,
        })
    }

    /// Removes what the node has published, and waits for the peer book.
    pub async fn close(self) {
        let Sources { rendezvous, peer_book, .. } = self;
        let ends = async {
            if let Some(rendezvous) = rendezvous {
                rendezvous.close().await;
            }
            if let Some(book) = peer_book {
                book.close().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, ends).await;
    }
}

/// Waits for a report of the rendezvous directory; never completes without one.
async fn next_local(rendezvous: &mut Option<Rendezvous>) -> SourceEvent {
    match rendezvous {
        Some(rendezvous) => rendezvous.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for a change of the region file; never completes without one.
async fn next_regions(regions: &mut Option<RegionFile>) -> SourceEvent {
    match regions {
        Some(regions) => regions.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits for the answers of DNS seeds; never completes without seeds.
async fn next_seeds(seeds: &mut Option<DnsSeeds>) -> SourceEvent {
    match seeds {
        Some(seeds) => seeds.next().await,
        None => std::future::pending().await,
    }
}
