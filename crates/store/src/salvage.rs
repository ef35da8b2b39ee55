//! Recovers mail from a damaged database.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use alloy_primitives::Address;
use redb::{AccessGuard, ReadOnlyTable, ReadableDatabase};

use super::catch_panic::catch_panic;
use super::file::{ACCOUNT, Changes, Database, FileError, Messages};
use super::mail::{self, KEY_BYTES};
use super::{Open, Snapshot};
use crate::disk::sync_name;
use p2p_node_core::mail::outbound::outbox::{OUTBOX_MAILS, PersistedMessage};

/// Moves a damaged database aside, makes a new one and puts the mail into it that could be
/// read from the damaged one. If one of these steps fails, the damaged database is moved back, so
/// that the next start finds it and reports it.
pub(super) fn replace_damaged(
    path: &Path,
    aside: &Path,
    messages: Vec<PersistedMessage>,
    open: &mut Open,
) -> Result<(Database, Snapshot), FileError> {
    fs::rename(path, aside).and_then(|()| sync_name(path))?;
    let opened = open().and_then(|(mut file, mut snapshot)| {
        if !messages.is_empty() {
            file.write(&Changes { messages: messages.clone(), ..Changes::default() })?;
            snapshot.messages = messages;
        }
        Ok((file, snapshot))
    });
    opened.inspect_err(|_| {
        if let Err(error) = fs::rename(aside, path) {
            tracing::warn!("{} cannot be moved back: {error}", aside.display());
        }
    })
}

/// Returns the mails of a network that can be read from a damaged database and are as they were
/// written. Returns none if the database is not certainly the account's.
pub(super) fn recover_messages(
    database: &redb::Database,
    network: &str,
    account: Address,
) -> Vec<PersistedMessage> {
    let mut found = BTreeMap::new();
    // A damaged page may make the library panic at any step; each step keeps what was found before.
    catch_panic(|| {
        let read = database.begin_read().ok()?;
        let owner = read.open_table(ACCOUNT).ok()?.get(()).ok()??;
        if owner.value() != &account.into_array() {
            return None;
        }
        let name = format!("messages/{network}");
        let table = read.open_table(Messages::new(&name)).ok()?;
        // Keys begin with a random stream id: most damaged pages lie between two of these places.
        for first in 0..=u8::MAX {
            let mut start = [0; KEY_BYTES];
            start[0] = first;
            catch_panic(|| walk(&table, &start, false, &mut found));
            catch_panic(|| walk(&table, &start, true, &mut found));
        }
        // From the end, back to the last damaged page.
        catch_panic(|| walk(&table, &[u8::MAX; KEY_BYTES], true, &mut found));
        Some(())
    });
    let mut messages: Vec<PersistedMessage> = found.into_values().flatten().collect();
    messages.sort_by_key(|mail| mail.position);
    // Two mails at one position cannot both be right.
    let mut positions = HashSet::new();
    messages.retain(|mail| positions.insert(mail.position));
    messages
}

/// Recovered rows by key; `None` for a row that is damaged.
type Found = BTreeMap<[u8; KEY_BYTES], Option<PersistedMessage>>;
type Row<'a> = (AccessGuard<'a, &'static [u8; KEY_BYTES]>, AccessGuard<'a, &'static [u8]>);

/// Reads rows from a key on, or backwards up to it, until a page cannot be read or a row is known.
fn walk(
    table: &ReadOnlyTable<&'static [u8; KEY_BYTES], &'static [u8]>,
    start: &[u8; KEY_BYTES],
    backwards: bool,
    found: &mut Found,
) {
    let rows = if backwards {
        table.range::<&[u8; KEY_BYTES]>(..=start)
    } else {
        table.range::<&[u8; KEY_BYTES]>(start..)
    };
    let Ok(mut rows) = rows else { return };
    while found.len() <= OUTBOX_MAILS {
        let row = if backwards { rows.next_back() } else { rows.next() };
        let Some(Ok(row)) = row else { return };
        let row: Row<'_> = row;
        let key = *row.0.value();
        if found.insert(key, mail::decode(&key, row.1.value()).ok()).is_some() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
