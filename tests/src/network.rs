//! The ways between the parts of a cluster: each reaches the broker, and the store where that is a server, through a
//! proxy of its own, so that any of them can be hurt alone.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use tokio::runtime::Runtime;

use crate::proxy::Proxy;

/// Where a way leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    ToBroker,
    ToStore,
}

/// See the module. Ends with its owner.
pub struct Network {
    /// By part and server.
    ways: BTreeMap<(String, Way), Proxy>,
    /// Carries all of them.
    runtime: Runtime,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("ways", &self.ways).finish_non_exhaustive()
    }
}

impl Default for Network {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { ways: BTreeMap::new(), runtime: runtime.expect("a runtime for the proxies") }
    }
}

impl Network {
    /// Makes a way from a part to a server and returns the address that the part is to use.
    pub fn lay(&mut self, part: &str, way: Way, server: SocketAddr) -> SocketAddr {
        let proxy = self.runtime.block_on(Proxy::start(server));
        let address = proxy.address();
        self.ways.insert((part.to_owned(), way), proxy);
        address
    }

    /// A part's way, if there is one.
    #[must_use]
    pub fn way(&self, part: &str, way: Way) -> Option<&Proxy> {
        self.ways.get(&(part.to_owned(), way))
    }

    /// Everybody's.
    pub fn ways(&self, way: Way) -> impl Iterator<Item = &Proxy> {
        self.ways.iter().filter(move |((_, to), _)| *to == way).map(|(_, proxy)| proxy)
    }
}
