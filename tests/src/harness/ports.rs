//! Ports for listeners that must keep their number over a restart.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rand::Rng as _;

/// Outside the range from which the system gives ports to clients and to port 0.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A free port of loopback. No other process of the tests takes it while its program is not yet there or dead: all take theirs
/// in turn, by a file that says which one was the last.
///
/// # Errors
/// The file, or the network.
pub fn free() -> io::Result<SocketAddr> {
    let path = std::env::temp_dir().join("idr-tests-last-port");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    file.lock()?;
    let mut last = String::new();
    file.read_to_string(&mut last)?;
    let mut port = last.trim().parse().unwrap_or_else(|_| rand::rng().random_range(PORTS));
    loop {
        port = if (PORTS.start..PORTS.end - 1).contains(&port) { port + 1 } else { PORTS.start };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match TcpListener::bind(address) {
            Ok(_) => {
                file.rewind()?;
                file.write_all(format!("{port:5}").as_bytes())?;
                return Ok(address);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}
