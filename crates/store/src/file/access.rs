//! Writes of access rules and bans.

use p2p_node_core::gate::access_list::{AccessRule, Subject};
use p2p_node_core::gate::reputation::{Party, PersistedBan};
use redb::WriteTransaction;

use super::super::bans::{encode_ban, encode_party};
use super::super::codec;
use super::{Bans, Database, FileError, Standings};

impl Database {
    /// Returns `true` if anything changed.
    pub(super) fn set_access_rules(
        &self,
        write: &WriteTransaction,
        access_rules: &[(Subject, Option<AccessRule>)],
    ) -> Result<bool, FileError> {
        if access_rules.is_empty() {
            return Ok(false);
        }
        let mut table = write.open_table(Standings::new(&self.access_rules))?;
        for (subject, rule) in access_rules {
            let key = codec::encode_subject(subject);
            match rule {
                Some(rule) => drop(table.insert(key.as_slice(), codec::encode_access_rule(*rule))?),
                None => drop(table.remove(key.as_slice())?),
            }
        }
        Ok(true)
    }

    /// Returns `true` if anything changed.
    pub(super) fn set_bans(
        &self,
        write: &WriteTransaction,
        bans: &[(Party, Option<PersistedBan>)],
    ) -> Result<bool, FileError> {
        if bans.is_empty() {
            return Ok(false);
        }
        let mut table = write.open_table(Bans::new(&self.bans))?;
        for (party, ban) in bans {
            let key = encode_party(party);
            match ban {
                Some(ban) => drop(table.insert(key.as_slice(), encode_ban(ban).as_slice())?),
                None => drop(table.remove(key.as_slice())?),
            }
        }
        Ok(true)
    }
}
