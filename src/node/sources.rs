//! Opens the sources of peers that the configuration names.

use libp2p::{Multiaddr, PeerId};

use super::StartError;
use crate::config::Config;
use crate::io::dns_seeds::DnsSeeds;
use crate::io::peer_book::PeerBook;
use crate::io::regions::RegionFile;
use crate::io::rendezvous::{Place, Rendezvous};
use crate::io::sources::Sources;
use p2p_node_core::peers::bootstrap::parse_bootstrap;
use p2p_node_core::source::{KnownPeer, Regions};

/// The sources of peers, and what they know at the start.
pub(super) struct OpenSources {
    pub(super) sources: Sources,
    /// The bootstrap peers of the configuration.
    pub(super) bootstraps: Vec<(PeerId, Multiaddr)>,
    /// The peers of the peer book; `None` without a data directory.
    pub(super) peer_book: Option<Vec<KnownPeer>>,
    /// The regions of the region file.
    pub(super) regions: Regions,
}

/// Opens the sources. Calls `notice` with warnings for the user.
pub(super) fn open(config: &Config, notice: &mut dyn FnMut(String)) -> Result<OpenSources, StartError> {
    let bootstraps = bootstraps(config)?;
    let (peer_book, known_peers) = open_peer_book(config);
    let (region_file, regions) = open_regions(config)?;
    let dns_seeds =
        (!config.dns_seeds.is_empty()).then(|| DnsSeeds::new(&config.dns_seeds, config.dns_server));
    let rendezvous = open_rendezvous(config, notice);
    let sources = Sources { rendezvous, peer_book, regions: region_file, dns_seeds };
    Ok(OpenSources { sources, bootstraps, peer_book: known_peers, regions })
}

/// Returns the bootstrap peers of the configuration.
fn bootstraps(config: &Config) -> Result<Vec<(PeerId, Multiaddr)>, StartError> {
    let parsed = config.bootstrap.iter().map(|addr| parse_bootstrap(&addr.to_string()));
    parsed.collect::<Result<_, _>>().map_err(StartError::Bootstrap)
}

/// Opens the peer book in the data directory, and reads its peers. Both are absent without a data
/// directory.
fn open_peer_book(config: &Config) -> (Option<PeerBook>, Option<Vec<KnownPeer>>) {
    let book = config.data_dir.as_ref().map(|dir| PeerBook::new(dir, &config.network));
    let known = book.as_ref().map(PeerBook::read);
    (book, known)
}

/// Opens the region file, if the configuration names one, and returns its regions.
fn open_regions(config: &Config) -> Result<(Option<RegionFile>, Regions), StartError> {
    let Some(path) = &config.region_file else { return Ok((None, Regions::new())) };
    let (file, regions) = RegionFile::open(path, &config.network).map_err(StartError::Bootstrap)?;
    Ok((Some(file), regions))
}

/// Opens the rendezvous directory. A node without it works, so a failure is an error for nobody; the
/// user learns of it if the user chose the directory.
fn open_rendezvous(config: &Config, notice: &mut dyn FnMut(String)) -> Option<Rendezvous> {
    match Rendezvous::open(&config.rendezvous, &config.network, &config.lock_scope) {
        Ok(rendezvous) => rendezvous,
        Err(error) => {
            let message =
                format!("no local rendezvous, so nodes on this machine do not find each other: {error}");
            match config.rendezvous {
                Place::Default => tracing::info!("{message}"),
                _ => notice(message),
            }
            None
        }
    }
}
