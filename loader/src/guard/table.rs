//! Rules become the entries of the guards' maps, and back: pure, so that the difference between two states is data.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_abi::guard::{
    CANARY, LEASES_MAX, Lease, LeaseKey, MEASURES_MAX, NEVER, SCOPES_MAX, SHAPES_MAX, Scope,
    ScopeKey, Shape, WILD_PORT, WILD_PROTOCOL, list, scope,
};
use thiserror::Error;

use super::rule::{Lists, PeerPattern, Rule, What, Who, mask};

/// A bound of the guards' maps was reached.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Full {
    /// Distinct pairs of prefix length and wildcards.
    #[error(
        "more than {SHAPES_MAX} different prefix lengths with and without ports are denied at once"
    )]
    Shapes,
    /// Leases.
    #[error("more than {LEASES_MAX} leases")]
    Leases,
    /// Scopes.
    #[error("more than {SCOPES_MAX} containers and workloads under measures at once")]
    Scopes,
    /// Measures.
    #[error("more than {MEASURES_MAX} measures")]
    Measures,
}

/// The table of shapes as the kernel has it.
pub(super) type Shapes = [Shape; SHAPES_MAX as usize];

/// One state of the guards' maps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tables {
    pub(super) leases: BTreeMap<LeaseKey, Lease>,
    pub(super) scopes: BTreeMap<ScopeKey, Scope>,
    /// The node, and containers without a name.
    pub(super) node: [Scope; 2],
    pub(super) shapes: Shapes,
    /// Measures that have counters.
    pub(super) measures: BTreeSet<u64>,
    /// Whether some peer is always allowed, so that neighbours must be found under quarantine.
    pub(super) neighbours: bool,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            leases: BTreeMap::new(),
            scopes: BTreeMap::new(),
            node: [Scope::default(); 2],
            shapes: [Shape::default(); SHAPES_MAX as usize],
            measures: BTreeSet::new(),
            neighbours: false,
        }
    }
}

impl Tables {
    /// Whether any container could be refused anything.
    pub(super) fn armed(&self) -> bool {
        !self.measures.is_empty()
    }
}

/// The state that these rules ask for. Shapes that `current` has keep their index, and an index that is in use there is
/// given to no other shape, so that a program that runs meanwhile never reads one shape for another.
pub(super) fn compile(rules: &[Rule], lists: &Lists, current: &Shapes) -> Result<Tables, Full> {
    let mut tables = Tables::default();
    let mut shapes = Allocator { current, target: [Shape::default(); SHAPES_MAX as usize] };
    for rule in rules {
        tables.measures.insert(rule.measure);
        let (kind, id) = scope_of(rule.who);
        match rule.what {
            What::Quarantine => {
                quarantine(tables.scope(kind, id), rule);
                if id != CANARY {
                    quarantine(&mut tables.node[1], rule);
                }
            }
            What::Deny { peers, manual } => {
                let list = if manual { list::MANUAL } else { list::AUTOMATIC };
                let lease = Lease { expires_ns: rule.expires_ns, measure: rule.measure };
                let bit = 1 << shapes.index(&peers)?;
                tables.scope(kind, id).shapes[usize::from(list)] |= bit;
                longest(&mut tables.leases, key(kind, id, list, &peers), lease);
                if id != CANARY {
                    tables.node[1].shapes[usize::from(list)] |= bit;
                    longest(&mut tables.leases, key(scope::UNRESOLVED, 0, list, &peers), lease);
                }
            }
        }
    }
    for (list, peers) in [
        (list::CRITICAL, &lists.critical),
        (list::PROTECTED, &lists.protected),
        (list::QUARANTINE_ALLOW, &lists.quarantine_allow),
    ] {
        for peers in peers {
            let lease = Lease { expires_ns: NEVER, measure: u64::MAX };
            tables.node[0].shapes[usize::from(list)] |= 1 << shapes.index(peers)?;
            tables.leases.insert(key(scope::NODE, 0, list, peers), lease);
        }
    }
    tables.neighbours = !lists.critical.is_empty() || !lists.quarantine_allow.is_empty();
    tables.shapes = shapes.target;
    if tables.leases.len() > LEASES_MAX as usize {
        return Err(Full::Leases);
    }
    if tables.scopes.len() > SCOPES_MAX as usize {
        return Err(Full::Scopes);
    }
    if tables.measures.len() > MEASURES_MAX as usize {
        return Err(Full::Measures);
    }
    Ok(tables)
}

/// The rules behind a state. Of rules that share a key only the one that lasts longest is in the kernel, and comes back.
pub(super) fn decompile(tables: &Tables) -> (Vec<Rule>, Lists) {
    let mut rules = Vec::new();
    let mut lists = Lists::default();
    for (key, lease) in &tables.leases {
        let peers = pattern(key);
        let who = match key.scope {
            scope::CONTAINER => Who::Container(key.id),
            scope::WORKLOAD => Who::Workload(key.id),
            scope::NODE => Who::Node,
            _ => continue,
        };
        let manual = match key.list {
            list::MANUAL => true,
            list::AUTOMATIC => false,
            other => {
                match other {
                    list::CRITICAL => lists.critical.push(peers),
                    list::PROTECTED => lists.protected.push(peers),
                    list::QUARANTINE_ALLOW => lists.quarantine_allow.push(peers),
                    _ => {}
                }
                continue;
            }
        };
        let what = What::Deny { peers, manual };
        rules.push(Rule { who, what, expires_ns: lease.expires_ns, measure: lease.measure });
    }
    let scopes = tables.scopes.iter().map(|(key, scope)| {
        let container = key.kind == u32::from(scope::CONTAINER);
        (if container { Who::Container(key.id) } else { Who::Workload(key.id) }, scope)
    });
    for (who, scope) in scopes.chain([(Who::Node, &tables.node[0])]) {
        if scope.quarantine_until_ns != 0 {
            rules.push(Rule {
                who,
                what: What::Quarantine,
                expires_ns: scope.quarantine_until_ns,
                measure: scope.quarantine_measure,
            });
        }
    }
    (rules, lists)
}

impl Tables {
    fn scope(&mut self, kind: u8, id: u64) -> &mut Scope {
        if kind == scope::NODE {
            &mut self.node[0]
        } else {
            self.scopes.entry(ScopeKey { id, kind: u32::from(kind), pad: 0 }).or_default()
        }
    }
}

fn scope_of(who: Who) -> (u8, u64) {
    match who {
        Who::Container(id) => (scope::CONTAINER, id),
        Who::Workload(id) => (scope::WORKLOAD, id),
        Who::Node => (scope::NODE, 0),
    }
}

fn quarantine(scope: &mut Scope, rule: &Rule) {
    if rule.expires_ns > scope.quarantine_until_ns {
        scope.quarantine_until_ns = rule.expires_ns;
        scope.quarantine_measure = rule.measure;
    }
}

/// Of leases with one key the one that lasts longest is in force: ending a shorter one would change nothing.
fn longest(leases: &mut BTreeMap<LeaseKey, Lease>, key: LeaseKey, lease: Lease) {
    let held = leases.entry(key).or_insert(lease);
    if lease.expires_ns > held.expires_ns {
        *held = lease;
    }
}

fn words(bytes: [u8; 16]) -> [u64; 2] {
    let mut words = [0; 2];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*chunk);
    }
    words
}

fn wild(peers: &PeerPattern) -> u8 {
    let mut wild = 0;
    if peers.port.is_none() {
        wild |= WILD_PORT;
    }
    if peers.protocol.is_none() {
        wild |= WILD_PROTOCOL;
    }
    wild
}

fn key(scope: u8, id: u64, list: u8, peers: &PeerPattern) -> LeaseKey {
    LeaseKey {
        id,
        address: words(peers.address),
        port: peers.port.unwrap_or(0),
        protocol: peers.protocol.unwrap_or(0),
        prefix: peers.prefix,
        scope,
        list,
        wild: wild(peers),
        pad: 0,
    }
}

fn pattern(key: &LeaseKey) -> PeerPattern {
    let mut address = [0; 16];
    for (chunk, word) in address.as_chunks_mut::<8>().0.iter_mut().zip(key.address) {
        *chunk = word.to_ne_bytes();
    }
    PeerPattern {
        address,
        prefix: key.prefix,
        port: (key.wild & WILD_PORT == 0).then_some(key.port),
        protocol: (key.wild & WILD_PROTOCOL == 0).then_some(key.protocol),
    }
}

/// Gives shapes their index.
struct Allocator<'a> {
    current: &'a Shapes,
    target: Shapes,
}

impl Allocator<'_> {
    fn index(&mut self, peers: &PeerPattern) -> Result<usize, Full> {
        let shape = Shape {
            mask: words(mask(peers.prefix).to_be_bytes()),
            port_mask: if peers.port.is_some() { u16::MAX } else { 0 },
            protocol_mask: if peers.protocol.is_some() { u8::MAX } else { 0 },
            prefix: peers.prefix,
            wild: wild(peers),
            live: 1,
            pad: [0; 2],
        };
        let same = |shapes: &Shapes| shapes.iter().position(|s| *s == shape);
        let index = same(&self.target).or_else(|| same(self.current)).or_else(|| {
            (0..SHAPES_MAX as usize)
                .find(|i| self.target[*i].live == 0 && self.current[*i].live == 0)
        });
        let index = index.ok_or(Full::Shapes)?;
        self.target[index] = shape;
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deny(measure: u64, who: Who, prefix: &str, length: u8, expires_ns: u64) -> Rule {
        let peers = PeerPattern::new(prefix.parse().unwrap(), length, Some(443), Some(6));
        Rule { who, what: What::Deny { peers, manual: false }, expires_ns, measure }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let rules = vec![
            deny(1, Who::Container(7), "198.51.100.7", 32, 100),
            deny(2, Who::Workload(9), "2001:db8::", 32, 200),
            deny(3, Who::Node, "203.0.113.0", 24, NEVER),
            Rule { who: Who::Workload(9), what: What::Quarantine, expires_ns: 50, measure: 4 },
        ];
        let pattern = PeerPattern::new("192.0.2.1".parse().unwrap(), 32, None, None);
        let lists = Lists { critical: vec![pattern], ..Lists::default() };
        let tables = compile(&rules, &lists, &Tables::default().shapes).unwrap();
        let (mut back, lists_back) = decompile(&tables);
        back.sort_by_key(|r| r.measure);
        assert_eq!(back, rules);
        assert_eq!(lists_back, lists);
    }

    #[test]
    fn of_two_rules_with_one_key_the_longer_is_in_force() {
        let (short, long) = (
            deny(1, Who::Container(7), "198.51.100.7", 32, 100),
            deny(2, Who::Container(7), "198.51.100.7", 32, 200),
        );
        for rules in [[short, long], [long, short]] {
            let tables = compile(&rules, &Lists::default(), &Tables::default().shapes).unwrap();
            assert!(tables.leases.values().all(|l| l.measure == 2));
            assert_eq!(tables.measures.len(), 2);
        }
    }

    #[test]
    fn a_shape_in_use_is_never_given_to_another_in_one_step() {
        let first = compile(
            &[deny(1, Who::Node, "198.51.100.0", 24, 1)],
            &Lists::default(),
            &Tables::default().shapes,
        )
        .unwrap();
        let second =
            compile(&[deny(1, Who::Node, "198.51.100.0", 25, 1)], &Lists::default(), &first.shapes)
                .unwrap();
        assert_eq!(first.shapes.iter().position(|s| s.live == 1), Some(0));
        assert_eq!(second.shapes.iter().position(|s| s.live == 1), Some(1));
    }

    #[test]
    fn too_many_shapes_are_refused_not_forgotten() {
        let rules: Vec<Rule> =
            (1..=65).map(|i| deny(i, Who::Node, "2001:db8::", i as u8, 1)).collect();
        let shapes = Tables::default().shapes;
        assert!(compile(&rules[..64], &Lists::default(), &shapes).is_ok());
        assert_eq!(compile(&rules, &Lists::default(), &shapes), Err(Full::Shapes));
    }

    #[test]
    fn the_canary_holds_back_nobody_else() {
        let rule = deny(1, Who::Container(CANARY), "127.0.0.1", 32, 100);
        let tables = compile(&[rule], &Lists::default(), &Tables::default().shapes).unwrap();
        assert_eq!(tables.node[1], Scope::default());
        assert_eq!(tables.leases.len(), 1);
    }
}
