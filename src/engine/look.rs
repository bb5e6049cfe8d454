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
