//! What holds of the orders whatever peers say and clients ask for, against a naive model of the world.

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Add(usize),
    Remove(usize),
    ResetLearned,
    ResetAll,
    ResetNamed(Vec<usize>),
    /// Who of those that have a connection, whether it has a role, and whom it lists.
    Identified(usize, bool, Vec<usize>),
    NobodyReady,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..HOSTS.len()).prop_map(Step::Add),
        1 => (0..HOSTS.len()).prop_map(Step::Remove),
        1 => Just(Step::ResetLearned),
        1 => Just(Step::ResetAll),
        1 => vec(0..HOSTS.len(), 0..3).prop_map(Step::ResetNamed),
        6 => (any::<usize>(), any::<bool>(), vec(0..HOSTS.len(), 0..6))
            .prop_map(|(by, role, list)| Step::Identified(by, role, list)),
        1 => Just(Step::NobodyReady),
    ]
}

const HOSTS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// What the orders amount to, for one who carries them out and knows nothing else.
#[derive(Debug, Default)]
struct World {
    connected: BTreeSet<PeerAddress>,
    parked: BTreeSet<PeerAddress>,
    learned: BTreeSet<PeerAddress>,
}

impl World {
    fn carry_out(&mut self, effects: &Effects) {
        for order in &orders(effects) {
            match order {
                Order::Start(address, origin) => {
                    assert!(
                        !self.parked.contains(address) && self.connected.insert(address.clone()),
                        "{order:?}"
                    );
                    if *origin == PeerOrigin::Learned {
                        self.learned.insert(address.clone());
                    }
                }
                Order::Stop(address, reason) => {
                    let learned = self.learned.remove(address);
                    assert_eq!(learned, *reason != Reason::RemovedByClient, "{order:?}");
                    assert!(self.connected.remove(address) || self.parked.remove(address), "{order:?}");
                }
                Order::Park(address) => {
                    assert!(!self.learned.contains(address), "{order:?}");
                    assert!(
                        self.connected.remove(address) && self.parked.insert(address.clone()),
                        "{order:?}"
                    );
                }
                Order::Adopt(address) => assert!(self.learned.remove(address), "{order:?}"),
                Order::Redial(address) => assert!(self.connected.contains(address), "{order:?}"),
                Order::LeaveOut(count) => assert!(*count > 0),
                Order::Ready(_) => {}
                Order::Unpark(address) => {
                    assert!(
                        self.parked.remove(address) && self.connected.insert(address.clone()),
                        "{order:?}"
                    );
                }
            }
        }
    }

    fn len(&self) -> usize {
        self.connected.len() + self.parked.len()
    }
}

/// Carries out a step, and says what the world must be like then.
fn take(step: &Step, pool: &mut Membership, world: &mut World, limit: usize) {
    match step {
        Step::Add(host) => {
            let address = at(HOSTS[*host]);
            let full = world.len() >= limit;
            match add(pool, HOSTS[*host]) {
                Ok(orders) => world.carry_out(&orders),
                Err(PoolError::PeerQuota(_)) => assert!(full),
                Err(refused) => {
                    assert!(refused == PoolError::PeerExists && !world.learned.contains(&address));
                }
            }
        }
        Step::Remove(host) => match remove(pool, HOSTS[*host]) {
            Ok(orders) => world.carry_out(&orders),
            Err(PoolError::PeerNotConfigured) => assert!(world.learned.contains(&at(HOSTS[*host]))),
            Err(_) => assert!(!world.connected.contains(&at(HOSTS[*host]))),
        },
        Step::ResetLearned | Step::ResetAll => {
            let all = matches!(step, Step::ResetAll);
            world.carry_out(&effects(|effects| pool.reset(all, &HashSet::new(), now(), effects)));
            assert!(world.learned.is_empty() && world.parked.is_empty());
        }
        Step::ResetNamed(hosts) => {
            let names: BTreeSet<_> = hosts.iter().map(|host| at(HOSTS[*host])).collect();
            let mut effects = Effects::default();
            match pool.reset_named(&names, &mut effects) {
                Ok(()) => {
                    world.carry_out(&effects);
                    assert!(names.iter().all(|name| world.connected.contains(name)));
                    assert_eq!(effects.actions.len(), names.len());
                }
                Err(PoolError::PeerNotFound(unknown)) => {
                    assert!(names.contains(&unknown) && !world.connected.contains(&unknown));
                }
                Err(other) => panic!("{other}"),
            }
        }
        Step::Identified(by, role, hosts) => {
            let Some(by) = world.connected.iter().nth(by % world.connected.len().max(1)).cloned() else {
                return;
            };
            let list: Vec<_> = hosts.iter().map(|host| at(HOSTS[*host])).collect();
            let (before, learned_before) = (world.len(), !world.learned.is_empty());
            let roles = role.then_some(Role::PolicyRepository).into_iter().collect();
            world.carry_out(&effects(|effects| {
                pool.identified(&by, roles, list.clone(), None, now(), effects)
            }));
            let followed = pool.mode == ElementMode::Stitched || !role || !list.contains(&by);
            assert!(!followed || world.learned.iter().all(|address| list.contains(address)));
            assert!(world.len() <= limit.max(before));
            let is_there = |address| world.connected.contains(address) || world.parked.contains(address);
            assert!(list.iter().all(is_there) || world.len() >= limit, "left out of a pool with room");
            let stays = list.contains(&by);
            assert_eq!(world.connected.contains(&by), stays, "who lists itself stays, and nobody else");
            assert!(list.iter().all(|address| !world.parked.contains(address)), "listed and parked");
            if learned_before && world.learned.is_empty() {
                assert!(world.parked.iter().all(|address| *address == by), "nobody left, and some parked");
            }
        }
        Step::NobodyReady => {
            world.carry_out(&effects(|effects| pool.ask_parked(effects)));
            assert!(world.parked.is_empty());
        }
    }
    assert_eq!(pool.len(), world.len());
    let members: Vec<_> = world.connected.iter().chain(&world.parked).collect();
    assert!(world.learned.iter().all(|address| world.connected.contains(address)), "learned ones never park");
    assert!(pool.lists.keys().all(|address| members.contains(&address)), "the list of a stranger is kept");
}

proptest! {
    #[test]
    fn whatever_peers_say_the_orders_make_sense(
        mode in prop_oneof![Just(ElementMode::Stitched), Just(ElementMode::Transport)],
        limit in 1_usize..10,
        steps in vec(step(), 0..40),
    ) {
        let (mut pool, mut world) = (empty(mode, limit), World::default());
        for step in &steps {
            take(step, &mut pool, &mut world, limit);
        }
        let everyone = world.connected.union(&world.parked).count();
        let effects = effects(|effects| pool.stop_all(effects));
        let removed = effects.updates.iter().filter(|(_, update)| matches!(update, Update::Removed));
        prop_assert_eq!(removed.count(), everyone);
    }
}
