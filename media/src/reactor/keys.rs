//! Keys from port to port: whoever presses one in a conversation is heard pressing it by the others,
//! as an event or a tone of their own stream.

use super::Reactor;
use crate::event::PortId;
use crate::port::KeyRoute;

impl Reactor {
    /// Changes whose keys several ports get.
    pub(super) fn set_key_routes(&mut self, routes: &[(PortId, Vec<PortId>)]) {
        for (sink, sources) in routes {
            let Some(sink) = self.port_keys.get(sink).copied() else { continue };
            let wanted = self.keys(sources);
            let former = std::mem::take(&mut self.ports[sink].key_routes);
            let (mut kept, mut ended) = (Vec::with_capacity(wanted.len()), Vec::new());
            for route in former {
                if wanted.contains(&route.source) { kept.push(route) } else { ended.push(route) }
            }
            for source in wanted {
                if source != sink && !kept.iter().any(|route: &KeyRoute| route.source == source) {
                    kept.push(KeyRoute::new(source, self.ports[source].port.key_log()));
                }
            }
            let entry = &mut self.ports[sink];
            ended.iter_mut().for_each(|route| route.end(&mut entry.port));
            entry.key_routes = kept;
        }
    }

    /// Takes a port that closes out of all routes of keys.
    pub(super) fn leave_key_routes(&mut self, key: usize) {
        for (_, entry) in &mut self.ports {
            for route in entry.key_routes.extract_if(.., |route| route.source == key) {
                let mut route = route;
                route.end(&mut entry.port);
            }
        }
    }

    /// Gives a port the keys pressed at its sources, before it sends.
    pub(super) fn relay_keys(&mut self, sink: usize) {
        if self.ports[sink].key_routes.is_empty() {
            return;
        }
        let mut routes = std::mem::take(&mut self.ports[sink].key_routes);
        for route in &mut routes {
            let Some(log) = self.ports.get(route.source).map(|entry| *entry.port.key_log()) else {
                continue;
            };
            route.pass(&log, &mut self.ports[sink].port);
        }
        self.ports[sink].key_routes = routes;
    }
}
