//! The commands of a client that answers: `handle` and `respond`.

use p2p_node_protocol::{
    ErrorCode, Handle, HandlerError, MAX_HANDLED_KINDS, MAX_HANDLER_CODE_BYTES, MAX_HANDLER_MESSAGE_BYTES,
    Respond,
};
use p2p_node_wire::envelope::limits::{MAX_KIND_BYTES, is_code};

use crate::MAX_DIRECT_BYTES;
use crate::cx::Cx;
use crate::mail::Mail;
use crate::parent::Parent;
use crate::parent::on_send::{check_text, payload};
use crate::replies::reply_to::ReplyTo;
use crate::requests::Requests;
use crate::requests::on_respond::NewAnswer;
use crate::requests::steps::Content;

impl Parent {
    /// Sets the kinds of requests that a client handles.
    pub(crate) fn handle(&mut self, to: ReplyTo, handle: Handle, requests: &mut Requests, cx: &mut Cx) {
        match check_kinds(&handle.kinds) {
            Ok(()) => {
                requests.handle(to.client, handle.kinds);
                cx.answer(to, "handle", |_| {});
            }
            Err(message) => cx.refuse(to, ErrorCode::InvalidArgument, message),
        }
    }

    /// Sends an answer, or a part of one.
    pub(crate) fn respond(
        &mut self,
        to: ReplyTo,
        respond: Respond,
        requests: &mut Requests,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        let ticket = respond.ticket.clone();
        let sent = check_answer(respond).and_then(|answer| requests.respond(&to, &ticket, answer, mail, cx));
        if let Err((code, message)) = sent {
            cx.refuse_send(to, code, message);
        }
    }
}

fn check_kinds(kinds: &[String]) -> Result<(), String> {
    if kinds.len() > MAX_HANDLED_KINDS {
        return Err(format!("`kinds` may have at most {MAX_HANDLED_KINDS} kinds, not {}", kinds.len()));
    }
    if kinds.iter().any(String::is_empty) {
        return Err("`kinds` must not have an empty kind; `*` stands for requests without a kind".to_owned());
    }
    kinds.iter().try_for_each(|kind| check_text("kinds", kind, MAX_KIND_BYTES))
}

fn check_answer(respond: Respond) -> Result<NewAnswer, (ErrorCode, String)> {
    let invalid = |message: String| (ErrorCode::InvalidArgument, message);
    let more = respond.last == Some(false);
    match (respond.data, respond.error) {
        (Some(_), Some(_)) => Err(invalid("`respond` has either `data` or `error`".to_owned())),
        (None, Some(_)) if more => Err(invalid("an `error` ends the request, so it is `last`".to_owned())),
        (None, Some(error)) => check_error(error).map(NewAnswer::Fail).map_err(invalid),
        (None, None) if more => Err(invalid("a part that others follow needs `data`".to_owned())),
        (None, None) => Ok(NewAnswer::End),
        (Some(data), None) => {
            let length = data.get().len();
            if length > MAX_DIRECT_BYTES {
                let message =
                    format!("`data` has {length} bytes; an answer may have at most {MAX_DIRECT_BYTES}");
                return Err((ErrorCode::MessageTooLarge, message));
            }
            let (data, encoding) = payload(data, respond.encoding).map_err(invalid)?;
            let content = Content { data, encoding, kind: String::new(), trace: None };
            Ok(NewAnswer::Part { content, more })
        }
    }
}

fn check_error(error: HandlerError) -> Result<HandlerError, String> {
    if !is_code(&error.code) {
        return Err(format!(
            "`error.code` must have 1 to {MAX_HANDLER_CODE_BYTES} upper-case letters, digits and underscores"
        ));
    }
    check_text("error.message", &error.message, MAX_HANDLER_MESSAGE_BYTES)?;
    Ok(error)
}
