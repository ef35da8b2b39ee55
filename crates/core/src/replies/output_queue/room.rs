//! The room that an output queue has for more mail.

use super::{HIGH_RESERVE, MAIL, MAIL_LAG, MAIL_LIMIT, OutputQueue, in_lines, without_part};
use crate::budget::{Budget, Limit};

/// How many times the room for mail answers may use, in bytes. The node checks the room before it accepts a
/// frame, and buffers frames that come before their turn. So answers that it has accepted, and whose senders
/// repeat them no more, may come when the room is in use. Our choice: the parent has
/// 16 MiB more then, and one sender has at most 6 MiB that are buffered. Beyond it the request ends with `BUSY`.
const ANSWER_ROOMS: usize = 2;

impl OutputQueue {
    /// Returns `true` if the mail queue has room for `payloads` besides those that are `coming`.
    /// `has_high` allows the use of the high-priority reserve.
    pub fn has_mail_room(&self, payloads: Budget, has_high: bool, coming: Budget) -> bool {
        let waiting = self.waiting(MAIL) + in_lines(coming);
        let share = self.share_of(MAIL_LIMIT);
        let room = if has_high { share } else { without_part(share, HIGH_RESERVE) };
        waiting.is_empty() || waiting.fits_all(in_lines(payloads), room)
    }

    /// Returns `true` if there is room for an answer that the node has accepted.
    pub fn has_answer_room(&self, payload: usize) -> bool {
        let Limit { count, bytes } = self.share_of(MAIL_LIMIT);
        let waiting = self.waiting(MAIL);
        let limit = Limit { count, bytes: ANSWER_ROOMS * bytes };
        waiting.is_empty() || waiting.fits_all(in_lines(Budget::of(1, payload)), limit)
    }

    /// Returns `true` if the client reads mail about as fast as the node receives it.
    pub fn is_draining(&self) -> bool {
        !self.waiting(MAIL).is_over(self.share_of(MAIL_LAG))
    }

    /// Returns `true` if mail uses more than half of its room.
    pub fn is_behind(&self) -> bool {
        let Limit { count, bytes } = self.share_of(MAIL_LIMIT);
        self.waiting(MAIL).is_over(Limit { count: count / 2, bytes: bytes / 2 })
    }
}
