//! Ports for listeners that must keep their number over a restart.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rand::Rng as _;

/// A free port of loopback, outside the range from which the system gives ports to clients and to port 0: no other process of
/// the tests takes it while its program is dead.
pub fn free() -> std::io::Result<SocketAddr> {
    let mut random = rand::rng();
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, random.random_range(12_000..32_000)));
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}
