//! A window as the volume view sees it: features and flows, each peer under the name that a baseline keeps it by.

use bulkhead_domain::Window;
use bulkhead_domain::behaviour::Act;
use bulkhead_domain::feature::FeatureId;
use bulkhead_domain::net::{Peer, Protocol};
use bulkhead_domain::window::Direction;
use serde::{Deserialize, Serialize};

use crate::inventory::Inventory;
use crate::key::{EPHEMERAL_PORTS, Key, keys};

/// The name of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FlowKey {
    /// Opened by the container, to this peer.
    Out(Key),
    /// Opened by peers, on this local port: who called is not told apart, for clients come and go.
    In(u16, Protocol),
    /// Any flow that the container opened: what an unknown one is held against.
    AnyOut,
    /// Any flow that peers opened.
    AnyIn,
}

/// Traffic of one flow in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Its name.
    pub key: FlowKey,
    /// Its peer.
    pub peer: Peer,
    /// Bytes to the peer.
    pub bytes_out: f64,
    /// Bytes from the peer.
    pub bytes_in: f64,
    /// Connections opened.
    pub connections: f64,
}

/// One window, reduced to what the volume view compares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Features above zero.
    pub features: Vec<(FeatureId, f64)>,
    /// Flows.
    pub flows: Vec<Flow>,
}

impl Shape {
    /// Reduces a window.
    pub fn of(window: &Window, inventory: &Inventory) -> Self {
        let features = window
            .features
            .iter()
            .filter(|(_, v)| v.is_finite() && **v > 0.0)
            .map(|(id, v)| (*id, *v))
            .collect();
        let flows = window
            .peers
            .iter()
            .map(|p| Flow {
                key: match p.direction {
                    Direction::Outbound => {
                        let act = Act::Connect { peer: p.peer, name: None, refused: false };
                        FlowKey::Out(keys(&act, inventory).swap_remove(0))
                    }
                    Direction::Inbound => {
                        let port = if p.local_port >= EPHEMERAL_PORTS { 0 } else { p.local_port };
                        FlowKey::In(port, p.peer.protocol)
                    }
                },
                peer: p.peer,
                bytes_out: p.bytes_out as f64,
                bytes_in: p.bytes_in as f64,
                connections: p.connections as f64,
            })
            .collect();
        Self { features, flows }
    }

    /// A feature's value; absent is zero.
    pub fn feature(&self, id: FeatureId) -> f64 {
        self.features.iter().find(|(i, _)| *i == id).map_or(0.0, |(_, v)| *v)
    }

    /// What peers asked of the container: connections, bytes and flows that they opened.
    pub fn demand(&self) -> [f64; 2] {
        self.flows
            .iter()
            .filter(|f| matches!(f.key, FlowKey::In(..)))
            .fold([0.0; 2], |sum, f| [sum[0] + f.connections, sum[1] + f.bytes_in])
    }
}
