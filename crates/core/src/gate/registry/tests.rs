use p2p_node_protocol::{Event, Id};

use super::*;
use crate::client_id::ClientId;
use crate::effect::Effect;
use crate::gate::access_list::{AccessRule, Subject};
use crate::gate::tier::Tier;
use crate::testing::core_with;
use crate::{Core, input::Input};

const ANN: Address = Address::repeat_byte(1);
const BOB: Address = Address::repeat_byte(2);

fn with(policy: RegistryPolicy) -> Option<RegistryConfig> {
    Some(RegistryConfig { policy, ..RegistryConfig::default() })
}

fn core(policy: Option<RegistryPolicy>) -> Core {
    core_with(|config| {
        config.registry = policy.and_then(with);
        config.limits_apply = true;
    })
}

/// Returns the reads that the core asked for.
fn reads(core: &mut Core) -> Vec<(Token, Vec<Address>)> {
    let effects = std::mem::take(&mut core.cx.effects);
    effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Chain(ChainCommand::ReadAgents { token, agents }) => {
                Some((token, agents.into_iter().map(|query| query.agent).collect()))
            }
            Effect::Chain(ChainCommand::ReadEntry { token, query }) => Some((token, vec![query.agent])),
            _ => None,
        })
        .collect()
}

fn info(is_active: bool, is_blocked: bool) -> Option<AgentInfo> {
    Some(AgentInfo { is_active, is_blocked, ..AgentInfo::default() })
}

fn read_waiting(core: &mut Core) {
    core.gate.registry.read_waiting(|_| None, &mut core.cx);
}

/// Looks up agents, and answers the read.
fn learn(core: &mut Core, agents: &[(Address, Option<AgentInfo>)]) {
    let now = core.cx.now.mono;
    for (agent, _) in agents {
        core.gate.registry.look_up(agent, true, now);
    }
    read_waiting(core);
    let (token, asked) = reads(core).pop().unwrap();
    assert!(asked.iter().eq(agents.iter().map(|(agent, _)| agent)));
    core.gate.registry.on_event(ChainEvent::AgentsRead { token, agents: agents.to_vec() }, &mut core.cx);
}

#[test]
fn each_policy_judges_what_the_registry_says() {
    let refuse = |code| RegistryVerdict::Refuse(code);
    for (registration, enforced) in [
        (Registration::Unknown, RegistryVerdict::Wait),
        (Registration::Registered, RegistryVerdict::Admit),
        (Registration::RegisteredOnce, RegistryVerdict::Admit),
        (Registration::NotRegistered, refuse(ErrorCode::NotRegistered)),
        (Registration::Blocked, refuse(ErrorCode::RegistryBlocked)),
    ] {
        for policy in [RegistryPolicy::Off, RegistryPolicy::Warn] {
            assert_eq!(Registry::new(with(policy)).verdict(registration), RegistryVerdict::Admit);
        }
        assert_eq!(Registry::new(with(RegistryPolicy::Enforce)).verdict(registration), enforced);
    }
    for policy in [RegistryPolicy::Off, RegistryPolicy::Warn, RegistryPolicy::Enforce] {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    assert!("strict".parse::<RegistryPolicy>().is_err());
}

#[test]
fn registry_that_is_off_or_absent_reads_nobody() {
    for policy in [None, Some(RegistryPolicy::Off)] {
        let mut core = core(policy);
        assert_eq!(core.gate.registry.look_up(&ANN, true, core.cx.now.mono), Registration::Unknown);
        read_waiting(&mut core);
        assert_eq!(reads(&mut core), []);
    }
}

#[test]
fn registered_agent_is_known_and_a_blocked_one_is_a_stranger() {
    let mut core = core(Some(RegistryPolicy::Warn));
    learn(&mut core, &[(ANN, info(true, false)), (BOB, info(true, true))]);
    let node = libp2p_identity::PeerId::random();
    let (gate, now) = (&mut core.gate, core.cx.now.mono);
    assert_eq!((gate.tier(Some(&ANN), &node), gate.tier(Some(&BOB), &node)), (Tier::Known, Tier::Stranger));
    assert_eq!(
        (gate.trust(&ANN, &node, now), gate.trust(&BOB, &node, now)),
        (Trust::Registered, Trust::Blocked)
    );
    gate.access_list.set(Subject::Agent(BOB), Some(AccessRule::Allowed)).unwrap();
    assert_eq!(gate.trust(&BOB, &node, now), Trust::Allowed, "the word of the parent counts more");
}

#[test]
fn failed_reads_pause_and_are_told_once_until_one_succeeds() {
    let mut core = core(Some(RegistryPolicy::Warn));
    let logs = |core: &mut Core| {
        core.cx.flush_output();
        let effects = std::mem::take(&mut core.cx.effects);
        let is_log = |effect: &Effect| matches!(effect, Effect::Emit { event: Event::Log(log), .. } if log.namespace == "registry");
        effects.iter().filter(|effect| is_log(effect)).count()
    };
    logs(&mut core);
    core.gate.registry.look_up(&ANN, true, core.cx.now.mono);
    for round in 0..3 {
        read_waiting(&mut core);
        let (token, _) = reads(&mut core).pop().unwrap();
        let reason = "no answer".to_owned();
        core.gate.registry.on_event(ChainEvent::ReadFailed { token, reason }, &mut core.cx);
        assert_eq!(logs(&mut core), usize::from(round == 0));
        read_waiting(&mut core);
        assert_eq!(reads(&mut core), [], "the next read waits");
        let mut timers = TimerTable::default();
        core.gate.registry.timers(&mut timers);
        core.cx.now.mono = timers.first().unwrap().0;
    }
    read_waiting(&mut core);
    let (token, agents) = reads(&mut core).pop().unwrap();
    let agents = agents.into_iter().map(|agent| (agent, info(true, false))).collect();
    core.gate.registry.on_event(ChainEvent::AgentsRead { token, agents }, &mut core.cx);
    assert_eq!(logs(&mut core), 1, "the servers answer again");
    assert_eq!(core.gate.registry.peek(&ANN, core.cx.now.mono), Registration::Registered);
}

#[test]
fn commands_are_answered_from_the_chain_and_have_a_limit() {
    let mut core = core(Some(RegistryPolicy::Off));
    let to = || ReplyTo::new(ClientId::PARENT, Some(Id::from(7)));
    for _ in 0..MAX_OPEN_COMMANDS {
        core.gate.registry.on_command(to(), &ANN.to_string(), |_| None, &mut core.cx);
    }
    let asked = reads(&mut core);
    assert_eq!(asked.len(), MAX_OPEN_COMMANDS);
    let last = |core: &mut Core| {
        core.cx.flush_output();
        let effects = std::mem::take(&mut core.cx.effects);
        effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Emit { event, .. } => Some(event),
                _ => None,
            })
            .last()
    };
    core.gate.registry.on_command(to(), &ANN.to_string(), |_| None, &mut core.cx);
    let refused = last(&mut core);
    assert!(matches!(&refused, Some(Event::Error(error)) if error.code == ErrorCode::Busy), "{refused:?}");
    let (token, _) = asked[0];
    let ens_name = Some("ann.eth".parse().unwrap());
    let event = ChainEvent::EntryRead { token, agent: ANN, info: info(true, false), ens_name };
    core.gate.registry.on_event(event, &mut core.cx);
    let answer = last(&mut core);
    let Some(Event::Result(answer)) = answer else { panic!("{answer:?}") };
    let entry = answer.registry.unwrap();
    assert!(entry.is_registered && !entry.is_blocked && entry.ens_name.as_deref() == Some("ann.eth"));
    let (token, _) = asked[1];
    let reason = "no answer".to_owned();
    core.gate.registry.on_event(ChainEvent::ReadFailed { token, reason }, &mut core.cx);
    let failed = last(&mut core);
    assert!(
        matches!(&failed, Some(Event::Error(error)) if error.code == ErrorCode::RegistryUnavailable),
        "{failed:?}"
    );
}

#[test]
fn unusable_configuration_ends_the_node() {
    let mut core = core(Some(RegistryPolicy::Warn));
    let now = core.cx.now;
    core.handle(Input::Chain(ChainEvent::Unusable { reason: "another chain".to_owned() }), now);
    core.handle_timeout(now);
    let codes: Vec<_> = std::iter::from_fn(|| core.poll_effect())
        .filter_map(|effect| match effect {
            Effect::Emit { event: Event::Error(error), .. } => Some(error.code),
            _ => None,
        })
        .collect();
    assert_eq!(codes, [ErrorCode::RegistryUnusable]);
}
