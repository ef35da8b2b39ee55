//! The check of the signature of a binding: in the crypto pool for the key of an agent, and on its chain for
//! a contract wallet.

use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::identity::{BindingHash, SignedBinding};

use crate::chain::{ChainCommand, ChainEvent, WalletQuestion};
use crate::crypto_task::CryptoTask;
use crate::cx::Cx;
use crate::effect::{Effect, Verdict};
use crate::gate::Gate;
use crate::gate::pending_verification::{Pending, drop_pending};
use crate::signal::Signal;

/// Why a binding does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindingFault {
    /// The agent did not sign it, as every node finds.
    Forged,
    /// No contract wallet confirmed it. Nobody is to blame: other nodes may ask at another block, or cannot
    /// ask.
    Unconfirmed,
}

impl BindingFault {
    /// Returns the verdict on the neighbour that brought the binding.
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            BindingFault::Forged => Verdict::Reject,
            BindingFault::Unconfirmed => Verdict::Ignore,
        }
    }

    /// Returns the counter of objects with this fault; `forged` is that of forged ones.
    pub(crate) fn counter(self, forged: Counter) -> Counter {
        match self {
            BindingFault::Forged => forged,
            BindingFault::Unconfirmed => Counter::BindingsUnconfirmed,
        }
    }

    /// Returns the reason for people.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            BindingFault::Forged => "the agent's key did not sign the binding",
            BindingFault::Unconfirmed => "no contract wallet confirms the binding",
        }
    }
}

impl Gate {
    /// Returns whether the agent signed a binding. Returns `None` if that is not checked yet; the node then
    /// processes the object from `defer` again after the check.
    pub(crate) fn check_binding(
        &mut self,
        binding: &SignedBinding,
        defer: impl FnOnce() -> Pending,
        cx: &mut Cx,
    ) -> Option<Result<(), BindingFault>> {
        let hash = binding.hash();
        let by_key = self.binding_cache.get(&hash);
        match by_key {
            Some(true) => return Some(Ok(())),
            Some(false) if !binding.may_be_of_contract() => return Some(Err(BindingFault::Forged)),
            Some(false) | None => {}
        }
        if let Some(known) = self.look_up_wallet(binding, hash, cx) {
            return Some(known);
        }
        match self.pending_verification.push(binding, defer()) {
            Err(pending) => drop_pending(*pending, Counter::CryptoPoolFull, cx),
            Ok(true) if by_key == Some(false) || !binding.may_be_of_key() => self.ask_or_release(hash, cx),
            Ok(true) => {
                let task = CryptoTask::CheckBinding(Box::new(binding.clone()));
                cx.effects.push_back(Effect::Crypto(task));
            }
            Ok(false) => {}
        }
        None
    }

    /// Returns what a contract wallet said of a binding. Asks again if that is soon old.
    fn look_up_wallet(
        &mut self,
        binding: &SignedBinding,
        hash: BindingHash,
        cx: &mut Cx,
    ) -> Option<Result<(), BindingFault>> {
        if !binding.may_be_of_contract() {
            return None;
        }
        let known = self.wallets.look_up(&hash, cx.now.mono)?;
        if known.is_old {
            self.ask_wallet(binding, hash, None, cx);
        }
        Some(if known.is_valid { Ok(()) } else { Err(BindingFault::Unconfirmed) })
    }

    /// Asks the contract wallet of a binding, if the limits allow it.
    fn ask_wallet(
        &mut self,
        binding: &SignedBinding,
        hash: BindingHash,
        from: Option<PeerId>,
        cx: &mut Cx,
    ) -> bool {
        let may_ask = self.wallets.begin(hash, from, cx.now.mono);
        if may_ask {
            cx.stats.count(Counter::WalletsAsked);
            cx.chain(ChainCommand::AskWallet(Box::new(WalletQuestion::of(binding))));
        }
        may_ask
    }

    /// Asks the contract wallet of a binding for which objects wait. Releases them if the node cannot ask:
    /// without RPC servers the binding is unconfirmed, above the limits its sender should try again.
    fn ask_or_release(&mut self, hash: BindingHash, cx: &mut Cx) {
        let Some((binding, from)) = self.pending_verification.of_contract(&hash) else { return };
        let binding = binding.clone();
        if !self.wallets.can_ask {
            self.on_wallet_asked(hash, Some(false), cx);
        } else if !self.ask_wallet(&binding, hash, Some(from), cx) {
            self.on_wallet_asked(hash, None, cx);
        }
    }

    /// Asks the contract wallet of this node's own binding, so that its user learns what peers will find.
    pub(crate) fn check_own_binding(&mut self, cx: &mut Cx) {
        let binding = cx.identity.binding.clone();
        if binding.may_be_of_contract() && !binding.verify_signature() {
            self.ask_wallet(&binding, binding.hash(), None, cx);
        }
    }

    /// Handles the outcome of a check by the crypto pool: processes the objects that waited for it again.
    /// `valid` is `None` if the crypto pool was full.
    pub(crate) fn on_binding_checked(&mut self, hash: BindingHash, valid: Option<bool>, cx: &mut Cx) {
        if let Some(valid) = valid {
            self.binding_cache.insert(hash, valid);
        }
        let may_be_of_contract = self.pending_verification.of_contract(&hash).is_some();
        match valid {
            Some(false) if may_be_of_contract => self.ask_or_release(hash, cx),
            Some(_) => self.release(hash, cx),
            None => self.drop_waiting(hash, Counter::CryptoPoolFull, cx),
        }
    }

    /// Handles a report of the chain.
    pub(crate) fn on_chain_event(&mut self, event: ChainEvent, cx: &mut Cx) {
        match event {
            ChainEvent::WalletAsked { binding, outcome } => self.on_wallet_asked(binding, outcome, cx),
            event => self.registry.on_event(event, cx),
        }
    }

    /// Handles the answer of a contract wallet. `outcome` is `None` if there is none.
    pub(crate) fn on_wallet_asked(&mut self, hash: BindingHash, outcome: Option<bool>, cx: &mut Cx) {
        self.wallets.on_answer(hash, outcome, cx.now.mono);
        if outcome == Some(false) && hash == cx.identity.binding.hash() {
            let reason = "the contract wallet does not confirm this node's binding, so peers refuse the node";
            cx.log(Level::Warn, "wallets", reason.to_owned());
        }
        match outcome {
            Some(_) => self.release(hash, cx),
            None => self.drop_waiting(hash, Counter::WalletsUnanswered, cx),
        }
    }

    /// Drops the objects that wait for a binding which was not checked.
    fn drop_waiting(&mut self, hash: BindingHash, counter: Counter, cx: &mut Cx) {
        for pending in self.pending_verification.remove(&hash) {
            drop_pending(pending, counter, cx);
        }
    }

    /// Processes the objects that waited for a binding again.
    fn release(&mut self, hash: BindingHash, cx: &mut Cx) {
        for pending in self.pending_verification.remove(&hash) {
            match pending {
                Pending::Record(record) => cx.signal(Signal::RecordReceived(record)),
                Pending::Gossip(message) => cx.signal(Signal::GossipChecked(message)),
                Pending::Mail(request) => cx.signal(Signal::MailChecked(request)),
            }
        }
    }
}
