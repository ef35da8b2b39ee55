//! `p2p-node explorer --tui`: reads keys and events, and draws the view.

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::sync::mpsc;

use super::ExplorerError;
use super::client::{Client, Events, Piece};
use super::view::View;

/// Capacity of the queue of keys that the view has not handled.
const KEYS: usize = 64;
/// Longest wait of the thread that reads keys until it notices that the view is gone.
const KEY_POLL: Duration = Duration::from_millis(200);
/// Pause before the next attempt to connect.
const RECONNECT: Duration = Duration::from_secs(1);

/// Shows the network until somebody quits.
pub(super) async fn run(client: &Client) -> Result<(), ExplorerError> {
    // Fails at once, before the screen changes, if the node is not there.
    let events = client.events().await?;
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(ExplorerError::NoTerminal);
    }
    let mut terminal = ratatui::try_init()?;
    let shown = follow(client, events, &mut terminal).await;
    ratatui::restore();
    shown
}

async fn follow(
    client: &Client,
    events: Events,
    terminal: &mut DefaultTerminal,
) -> Result<(), ExplorerError> {
    let (mut view, mut events, mut keys) = (View::default(), Some(events), keys()?);
    loop {
        terminal.draw(|frame| view.draw(frame))?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Ok(key)) if view.on_key(key) => {}
                Some(Ok(_)) | None => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
            },
            piece = next(client, &mut events) => match piece {
                Ok(Some(piece)) => view.on_piece(&piece),
                Ok(None) => {}
                Err(error) => {
                    events = None;
                    view.failed(&error);
                }
            },
        }
    }
}

/// Waits for the next event, or connects anew.
async fn next(client: &Client, events: &mut Option<Events>) -> Result<Option<Piece>, ExplorerError> {
    match events {
        Some(events) => events.next().await.map(Some),
        None => {
            tokio::time::sleep(RECONNECT).await;
            *events = Some(client.events().await?);
            Ok(None)
        }
    }
}

/// Reads keys in a thread, because a terminal cannot be polled. `None` stands for a changed size.
fn keys() -> io::Result<mpsc::Receiver<io::Result<Option<KeyEvent>>>> {
    let (sender, receiver) = mpsc::channel(KEYS);
    let read = move || {
        while !sender.is_closed() {
            let key = match event::poll(KEY_POLL)
                .and_then(|has| if has { event::read().map(Some) } else { Ok(None) })
            {
                Ok(Some(Event::Key(key))) if key.kind == KeyEventKind::Press => Ok(Some(key)),
                Ok(Some(Event::Resize(..))) => Ok(None),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            let failed = key.is_err();
            if sender.blocking_send(key).is_err() || failed {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(receiver)
}
