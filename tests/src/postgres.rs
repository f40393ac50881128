//! A private PostgreSQL for tests: in a folder of its own, on a Unix socket (and on loopback, where asked), of the Debian package's programs.
//! No system cluster is touched.
//!
//! [`shared`] is one server for all tests of a workspace, whatever process they run in: the first one makes and starts it, each takes a
//! database of its own, and it ends and is removed when no test has used it for a minute. It runs without `fsync`: its content is
//! thrown away. [`Cluster::start`] is a server of one test, which may be killed, and keeps what it commits.
//!
//! PostgreSQL refuses to run as root; there it runs as `postgres` or `nobody`.
//!
//! Only the standard library is used, so that the centre's own tests can take this file in.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for a server to start, on any machine.
const START: Duration = Duration::from_secs(180);
/// Of the shared server: seconds without a user after which it ends.
const UNUSED_SECONDS: u32 = 60;
/// The role of all tests.
pub const USER: &str = "idr";
/// The number in the name of the socket.
pub const PORT: u16 = 5432;

/// The folder of PostgreSQL's programs, of the newest version that is installed; `None`: there is none.
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
    let newest = versions.flatten().map(|entry| entry.path()).filter(|path| path.join("bin/initdb").is_file()).max_by_key(number)?;
    Some(newest.join("bin"))
}

/// An empty database of the shared server, removed with the server. A test holds it for as long as it uses the server.
#[derive(Debug)]
pub struct Database {
    /// Folder of the socket.
    pub host: PathBuf,
    /// Name.
    pub name: String,
    bin: PathBuf,
    _user: File,
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = sql(&self.bin, &self.host, PORT, "postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// A new database on the shared server, which is started if it does not run. `None`: PostgreSQL is not installed.
///
/// # Errors
/// The server does not start.
///
/// # Panics
/// It is not installed and `CI` is `true`.
pub fn shared() -> Result<Option<Database>> {
    let Some(bin) = programs() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "missing in CI: PostgreSQL (make setup)");
        eprintln!("skipped: PostgreSQL is not there (make setup)");
        return Ok(None);
    };
    let folder = folder_of_workspace()?;
    let lock = |name: &str| OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(name));
    // Held for as long as the database is used: without users the server ends. Taken first, so that it cannot end in between.
    let user = lock("users")?;
    user.lock_shared()?;
    let starting = lock("start")?;
    starting.lock()?;
    let server = folder.join("server");
    if !answers(&bin, &server, PORT) {
        start_shared(&bin, &folder, &server)?;
    }
    drop(starting);
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    create(&bin, &server, PORT, &name)?;
    Ok(Some(Database { host: server, name, bin, _user: user }))
}

/// Below the temporary folder, because `postgres` may not be able to enter the workspace, and because names of sockets are short.
fn folder_of_workspace() -> Result<PathBuf> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").trim_end_matches("/tests").trim_end_matches("/central").hash(&mut hasher);
    let owner = File::open("/proc/self")?.metadata()?.uid();
    let folder = std::env::temp_dir().join(format!("idr-postgres-{owner}-{:08x}", hasher.finish() & 0xffff_ffff));
    match std::fs::DirBuilder::new().mode(0o755).create(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let found = std::fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != owner || found.permissions().mode() & 0o022 != 0 {
        return Err(Error::other(format!("{} is not a folder of this user alone", folder.display())));
    }
    Ok(folder)
}

fn start_shared(bin: &Path, folder: &Path, server: &Path) -> Result<()> {
    if server.exists() && !server.join("complete").exists() {
        std::fs::remove_dir_all(server)?;
    }
    if !server.exists() {
        initialise(bin, server)?;
        std::fs::write(server.join("complete"), "")?;
    }
    // A keeper of its own session: it outlives the test, and its streams are not the runner's, which would wait for them.
    let keeper = "\"$@\" & server=$!; unused=0; exec 9>\"$USERS\"; \
        while kill -0 $server 2>/dev/null; do sleep 1; unused=$((unused + 1)); \
        if flock -n -x 9; then \
        if [ $unused -ge $UNUSED ]; then kill -INT $server; wait $server; rm -rf \"$SERVER\"; exit; fi; flock -u 9; \
        else unused=0; fi; done";
    let mut command = Command::new("sh");
    command.args(["-c", keeper, "keeper"]).args(server_command(bin, server, &["-F"]));
    command.env("USERS", folder.join("users")).env("UNUSED", UNUSED_SECONDS.to_string()).env("SERVER", server);
    quiet(&mut command, server)?;
    command.process_group(0);
    // The keeper is nobody's child that is waited for: the test's process may end before it.
    let mut keeper = command.spawn()?;
    wait_until_it_answers(bin, server, PORT, &mut keeper)
}

/// Files of a new server in `folder`, which its user owns.
fn initialise(bin: &Path, folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if let Some((uid, gid)) = other_user() {
        chown(folder, Some(uid), Some(gid))?;
    }
    let mut initdb = as_user(&bin.join("initdb"));
    initdb.arg("-D").arg(folder.join("data")).args([
        "-U",
        USER,
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "--no-instructions",
    ]);
    quiet(&mut initdb, folder)?;
    let made = initdb.status()?;
    if made.success() { Ok(()) } else { Err(Error::other(format!("initdb: {made}; see {}", folder.join("log").display()))) }
}

/// `postgres` with its arguments; as another user where this one is root.
fn server_command(bin: &Path, folder: &Path, more: &[&str]) -> Vec<String> {
    let mut command: Vec<String> = user_prefix();
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    command.extend([text(bin.join("postgres")), "-D".to_owned(), text(folder.join("data")), "-k".to_owned(), text(folder.to_owned())]);
    for setting in [
        "listen_addresses=".to_owned(),
        format!("port={PORT}"),
        // Every test has connections of its own.
        "max_connections=400".to_owned(),
        "shared_buffers=32MB".to_owned(),
        "max_wal_size=256MB".to_owned(),
        "log_error_verbosity=terse".to_owned(),
        "autovacuum=off".to_owned(),
    ] {
        command.extend(["-c".to_owned(), setting]);
    }
    command.extend(more.iter().map(|argument| (*argument).to_owned()));
    command
}

/// Who runs the server, where this process is root: uid and gid.
fn other_user() -> Option<(u32, u32)> {
    if File::open("/proc/self").and_then(|own| own.metadata()).is_ok_and(|own| own.uid() != 0) {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    ["postgres", "nobody"].into_iter().find_map(|name| {
        let row = users.lines().find(|row| row.split(':').next() == Some(name))?;
        let mut numbers = row.split(':').skip(2).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

fn user_prefix() -> Vec<String> {
    let setpriv = |(uid, gid)| vec!["setpriv".to_owned(), format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()];
    other_user().map(setpriv).unwrap_or_default()
}

fn as_user(program: &Path) -> Command {
    let mut words = user_prefix().into_iter();
    match words.next() {
        None => Command::new(program),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    }
}

/// Streams go to a file beside the data; the working folder is one that any user may enter.
fn quiet(command: &mut Command, folder: &Path) -> Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/").env("LC_ALL", "C");
    Ok(())
}

fn answers(bin: &Path, folder: &Path, port: u16) -> bool {
    let asked = Command::new(bin.join("pg_isready")).arg("-q").arg("-h").arg(folder).args(["-p", &port.to_string()]).status();
    folder.exists() && asked.is_ok_and(|status| status.success())
}

fn wait_until_it_answers(bin: &Path, folder: &Path, port: u16, process: &mut Child) -> Result<()> {
    let give_up = Instant::now() + START;
    while !answers(bin, folder, port) {
        if let Some(ended) = process.try_wait()? {
            return Err(Error::other(format!("PostgreSQL ended with {ended}; see {}", folder.join("log").display())));
        }
        if Instant::now() > give_up {
            return Err(Error::other(format!("PostgreSQL does not answer; see {}", folder.join("log").display())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn create(bin: &Path, folder: &Path, port: u16, name: &str) -> Result<()> {
    let made = sql(bin, folder, port, "postgres", &format!("DROP DATABASE IF EXISTS {name}"));
    made.and_then(|_| sql(bin, folder, port, "postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")))
        .map(|_| ())
}

/// Runs a statement by `psql`; gives its rows, unaligned.
fn sql(bin: &Path, folder: &Path, port: u16, database: &str, text: &str) -> Result<String> {
    let mut psql = Command::new(bin.join("psql"));
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database, "-p", &port.to_string(), "-c", text]);
    let done = psql.arg("-h").arg(folder).stdin(Stdio::null()).output()?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(Error::other(format!("psql: {}", String::from_utf8_lossy(&done.stderr)))),
    }
}

/// A server of one test.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    folder: PathBuf,
    settings: Vec<String>,
    port: u16,
    process: Option<Child>,
}

impl Cluster {
    /// A new server below the temporary folder, with these settings (`name=value`) besides. `None`: PostgreSQL is not installed.
    ///
    /// # Errors
    /// It does not start.
    ///
    /// # Panics
    /// It is not installed and `CI` is `true`.
    pub fn start(settings: &[&str]) -> Result<Option<Self>> {
        let Some(bin) = programs() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "missing in CI: PostgreSQL (make setup)");
            eprintln!("skipped: PostgreSQL is not there (make setup)");
            return Ok(None);
        };
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("idr-postgres-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        initialise(&bin, &folder)?;
        let settings = settings.iter().map(|setting| format!("-c{setting}")).collect();
        let mut cluster = Self { bin, folder, settings, port: PORT, process: None };
        cluster.go_on()?;
        Ok(Some(cluster))
    }

    /// Starts the server again, after [`kill`](Self::kill) or [`stop`](Self::stop).
    ///
    /// # Errors
    /// It does not start.
    pub fn go_on(&mut self) -> Result<()> {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let words = server_command(&self.bin, &self.folder, &settings);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        quiet(&mut command, &self.folder)?;
        let mut process = command.spawn()?;
        wait_until_it_answers(&self.bin, &self.folder, self.port, &mut process)?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts again on loopback too, with TLS by this certificate and key (PEM); gives the port, which is now also that of the socket.
    ///
    /// # Errors
    /// It does not start.
    pub fn listen(&mut self, certificate: &str, key: &str) -> Result<u16> {
        self.stop()?;
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.folder.join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            if let Some((uid, gid)) = other_user() {
                chown(&path, Some(uid), Some(gid))?;
            }
            let setting = if name == "server.crt" { "ssl_cert_file" } else { "ssl_key_file" };
            self.settings.push(format!("-c{setting}={}", path.display()));
        }
        self.port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        self.settings.extend([format!("-cport={}", self.port), "-clisten_addresses=127.0.0.1".to_owned(), "-cssl=on".to_owned()]);
        self.go_on()?;
        Ok(self.port)
    }

    /// Folder of the socket.
    pub fn host(&self) -> &Path {
        &self.folder
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn create(&self, name: &str) -> Result<()> {
        create(&self.bin, &self.folder, self.port, name)
    }

    /// Runs a statement as superuser; gives its rows, unaligned.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn sql(&self, database: &str, text: &str) -> Result<String> {
        sql(&self.bin, &self.folder, self.port, database, text)
    }

    /// `kill -9` of the server: its sessions end with it.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.kill()?;
        process.wait()?;
        // Sessions notice that their server is gone and end; until then the data is in use.
        let give_up = Instant::now() + START;
        while self.in_use() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn in_use(&self) -> bool {
        let data = self.folder.join("data");
        let of_ours = |process: PathBuf| std::fs::read_link(process.join("cwd")).is_ok_and(|folder| folder == data);
        std::fs::read_dir("/proc").is_ok_and(|processes| processes.flatten().any(|process| of_ours(process.path())))
    }

    /// Stops the server in order; who is connected is cut off.
    ///
    /// # Errors
    /// The process cannot be told or waited for.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let told = Command::new("kill").args(["-INT", &process.id().to_string()]).status()?;
        if !told.success() {
            process.kill()?;
        }
        process.wait().map(|_| ())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
