//! What only the audit asks of an engine: a network with who is in it, and every container.

use super::Engine;
use crate::error::Result;
use bollard::models::{ContainerSummary, NetworkInspect};
use bollard::query_parameters::{InspectNetworkOptions, ListContainersOptions};

impl Engine {
    /// What is known of a network; nothing where there is none.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn network(&self, name: &str) -> Result<Option<NetworkInspect>> {
        self.look("look at the network", self.docker.inspect_network(name, None::<InspectNetworkOptions>))
    }

    /// Every container, also those that do not run.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub fn containers(&self) -> Result<Vec<ContainerSummary>> {
        let options = ListContainersOptions { all: true, ..Default::default() };
        self.ask("list the containers", self.docker.list_containers(Some(options)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    #[test]
    fn an_engine_that_says_nothing_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        // Whoever connects is let in by the kernel, and never answered.
        let _listener = UnixListener::bind(&socket).unwrap();
        let start = Instant::now();
        let Err(error) = Engine::open_within(&socket, 1) else { panic!("it said nothing") };
        assert!(error.cause().contains("within 1 s"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
