//! The world outside the machine: a namespace with documentation addresses and no way further.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    process::Command,
    sync::Arc,
};

use crate::{
    address::{Block, CONTAINERS, CONTAINERS6, Range},
    command::output,
    error::HarnessError,
    netns::Netns,
    scratch::unique,
};

/// Peers that containers of one home can reach as if they were on the internet.
///
/// The namespace answers for eight IPv4 and eight IPv6 addresses; its only route leads back to the machine.
#[derive(Debug)]
pub struct Outside {
    netns: Netns,
    block: Block,
    link: String,
    home: Option<Arc<Netns>>,
}

impl Outside {
    /// Opens it for engines at home on the machine itself, or in a namespace of their own.
    pub fn open(home: Option<&Arc<Netns>>) -> Result<Self, HarnessError> {
        // Blocks that something else routes are held until a free one is found, so that none is tried twice.
        let mut taken = Vec::new();
        loop {
            let block = Block::claim(Range::Outside)?;
            let routes = match home {
                Some(home) => home.ip(&["-o", "route"])?,
                None => output(Command::new("ip").args(["-o", "route"]))?,
            };
            let ours = [
                format!("{}/", block.peer(0)),
                format!("{}/", Ipv4Addr::from_bits(block.link(0).to_bits() & !3)),
            ];
            if routes
                .lines()
                .any(|route| ours.iter().any(|prefix| route.starts_with(prefix.as_str())))
            {
                taken.push(block);
                continue;
            }
            let netns = Netns::new("out")?;
            let outside =
                Self { netns, block, link: format!("bho{}", unique()), home: home.cloned() };
            outside.connect()?;
            return Ok(outside);
        }
    }

    /// The namespace, to listen and to answer in.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Peer 0 to 7.
    pub fn peer(&self, number: u8) -> Ipv4Addr {
        self.block.peer(number)
    }

    /// Peer 0 to 7 in IPv6.
    pub fn peer6(&self, number: u8) -> Ipv6Addr {
        self.block.peer6(number)
    }

    fn connect(&self) -> Result<(), HarnessError> {
        let Self { netns, block, link, .. } = self;
        let far = netns.path();
        let far = far.to_string_lossy();
        self.at_home(&[
            "link", "add", link, "type", "veth", "peer", "name", "home0", "netns", &far,
        ])?;
        self.at_home(&["addr", "add", &format!("{}/30", block.link(0)), "dev", link])?;
        self.at_home(&["addr", "add", &format!("{}/112", block.link6(0)), "dev", link, "nodad"])?;
        self.at_home(&["link", "set", link, "up"])?;
        netns.ip(&["addr", "add", &format!("{}/30", block.link(1)), "dev", "home0"])?;
        netns.ip(&["addr", "add", &format!("{}/112", block.link6(1)), "dev", "home0", "nodad"])?;
        netns.ip(&["link", "set", "home0", "up"])?;
        // Routes back to containers alone: nothing outside has a way to anywhere else.
        netns.ip(&["route", "add", CONTAINERS, "via", &block.link(0).to_string()])?;
        netns.ip(&["-6", "route", "add", CONTAINERS6, "via", &block.link6(0).to_string()])?;
        for number in 0..8 {
            netns.add_address(block.peer(number))?;
            netns.add_address(block.peer6(number))?;
        }
        let peers = format!("{}/29", block.peer(0));
        self.at_home(&["route", "add", &peers, "via", &block.link(1).to_string()])?;
        let peers = format!("{}/112", Ipv6Addr::from_bits(block.peer6(0).to_bits() & !0xffff));
        self.at_home(&["-6", "route", "add", &peers, "via", &block.link6(1).to_string()])?;
        Ok(())
    }

    fn at_home(&self, words: &[&str]) -> Result<(), HarnessError> {
        match &self.home {
            Some(home) => home.ip(words).map(drop),
            None => output(Command::new("ip").args(words)).map(drop),
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The far end goes with the namespace, but asynchronously: the near end, and its routes, go now.
        let _ = self.at_home(&["link", "del", &self.link]);
    }
}
