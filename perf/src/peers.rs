//! The peers that Headwater is compared with, as `perf/peers/peers.toml` describes them.
//!
//! In: that file, and a job. Out: what can be started, what is missing and why, and running peers.
//! Contract: a peer prints `{"port":N}` when it serves and ends on SIGTERM; one with `limit` answers
//! SIGUSR1 with a JSON line of its counts. Nothing here knows a peer by name.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::process::{Child, Launch};
use crate::servers::{Counters, Job};

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The bytes of a WebSocket, without the protocol.
    Raw,
    Websocket,
}

/// What a server is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    Echo,
    Broadcast,
    /// Sends to groups of connections, told by numbers; of limits only.
    FanOut,
    /// What a handshake costs without a protocol.
    Accept,
    /// Pings whoever is silent, in the manner that is usual for it.
    Pings,
    /// `NUMBER TEXT` on `/publish` brings the text to those of `/c/NUMBER`.
    Channels,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Broadcast => "broadcast",
            Self::FanOut => "fan-out",
            Self::Accept => "accept",
            Self::Pings => "pings",
            Self::Channels => "channels",
        }
    }
}

/// One `[[peer]]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// A variant of the raw ring: the cheapest of them is the limit.
    #[serde(default)]
    pub(crate) limit: bool,
    pub(crate) roles: Vec<Role>,
    /// Commands that build it.
    #[serde(default)]
    build: Vec<Vec<String>>,
    /// The command that serves, with placeholders.
    start: Vec<String>,
    /// Files that are there when it is installed, beside the program.
    #[serde(default)]
    needs: Vec<String>,
    /// `SIGUSR1`: answers that signal with its counts.
    #[serde(default)]
    counters: Option<CountsBy>,
    /// Whose CPU time counts. Those of its children always do.
    #[serde(default)]
    processes: Option<Processes>,
    #[serde(default = "root")]
    echo_path: String,
    #[serde(default = "root")]
    broadcast_path: String,
    /// `message`, or `post:/path`.
    #[serde(default = "message")]
    publish: String,
    /// What it is a version of.
    #[serde(default)]
    pub(crate) version: Version,
    #[serde(default)]
    pub(crate) note: String,
}

/// How a peer is asked for its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum CountsBy {
    #[serde(rename = "SIGUSR1")]
    SigUsr1,
}

/// Which processes serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Processes {
    One,
    Tree,
}

/// A text, or a command that prints one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Version {
    Text(String),
    Command(Vec<String>),
}

impl Default for Version {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

fn root() -> String {
    "/".to_owned()
}

fn message() -> String {
    "message".to_owned()
}

/// How a message gets to everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Publish {
    /// As a message on a connection to this path.
    Message(String),
    /// As the body of a POST to this path.
    Post(String),
}

/// Where those of a channel are, and who publishes on all, with [`Role::Channels`].
pub(crate) fn channel_path(number: u32) -> String {
    format!("/c/{number}")
}
pub(crate) const PUBLISH_PATH: &str = "/publish";

/// All peers and where they live.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    directory: PathBuf,
    pub(crate) list: Vec<Peer>,
}

/// A peer that was wanted and is not to be had.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Missing {
    pub(crate) name: String,
    pub(crate) why: String,
}

impl Peers {
    /// Reads `directory/peers.toml`.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory)?;
        let path = directory.join("peers.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let list = parse(&text).with_context(|| path.display().to_string())?;
        Ok(Self { directory, list })
    }

    /// Builds what is missing where `build` says so; what cannot be started is named.
    pub(crate) fn prepare(&mut self, build: bool) -> Vec<Missing> {
        let mut missing = Vec::new();
        let directory = &self.directory;
        self.list.retain(|peer| match peer.prepare(directory, build) {
            Ok(()) => true,
            Err(error) => {
                missing.push(Missing { name: peer.name.clone(), why: format!("{error:#}") });
                false
            }
        });
        missing
    }

    /// Keeps the variants of the limit and those of the others that `names` asks for: `all`, `none`
    /// or names with commas between them.
    pub(crate) fn select(&mut self, role: Role, names: &str) -> Result<()> {
        let wanted: Vec<&str> = names.split(',').map(str::trim).collect();
        if !matches!(names, "all" | "none") {
            for name in &wanted {
                let known = self.list.iter().any(|peer| peer.name == **name);
                ensure!(known, "no peer is named {name}; peers.toml has {}", self.names());
            }
        }
        self.list.retain(|peer| {
            let asked = names == "all" || wanted.contains(&peer.name.as_str());
            peer.roles.contains(&role) && (peer.limit || asked)
        });
        Ok(())
    }

    /// Keeps the WebSocket servers that `names` asks for, as above; those that lack the role are named.
    pub(crate) fn select_websockets(&mut self, role: Role, names: &str) -> Result<Vec<Missing>> {
        let asked = |peer: &&Peer| {
            let by_name = names.split(',').any(|name| name.trim() == peer.name);
            peer.kind == Kind::Websocket && (names == "all" || by_name)
        };
        let lacking = self.list.iter().filter(asked).filter(|peer| !peer.roles.contains(&role));
        let why = format!("it has no role {}", role.name());
        let lacking =
            lacking.map(|peer| Missing { name: peer.name.clone(), why: why.clone() }).collect();
        self.select(role, names)?;
        self.list.retain(|peer| peer.kind == Kind::Websocket);
        Ok(lacking)
    }

    pub(crate) fn start(
        &self,
        peer: &Peer,
        job: &Job<'_>,
        launch: &Launch<'_>,
    ) -> Result<RunningPeer> {
        RunningPeer::start(&self.directory, peer, job, launch)
            .with_context(|| format!("starting {}", peer.name))
    }

    /// What a peer says it is.
    pub(crate) fn version(&self, peer: &Peer) -> String {
        match &peer.version {
            Version::Text(text) => text.clone(),
            Version::Command(argv) => {
                let output = command(&self.directory, argv).stdin(Stdio::null()).output();
                output.map_or_else(
                    |error| format!("unknown: {error}"),
                    |output| {
                        // Some print it on the one, some on the other.
                        let text = [output.stdout, output.stderr].concat();
                        let text = String::from_utf8_lossy(&text).into_owned();
                        // A list of dependencies ends with the one in question.
                        let last = text.lines().rfind(|line| !line.trim().is_empty());
                        let drawn = |c: char| !c.is_ascii() || c.is_whitespace();
                        last.unwrap_or_default().trim_matches(drawn).to_owned()
                    },
                )
            }
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.list.iter().map(|peer| peer.name.as_str()).collect();
        names.join(", ")
    }
}

impl Peer {
    fn prepare(&self, directory: &Path, build: bool) -> Result<()> {
        if build {
            for argv in &self.build {
                println!("building {}: {}", self.name, argv.join(" "));
                let status = command(directory, argv)
                    .stdin(Stdio::null())
                    .status()
                    .with_context(|| format!("cannot run {argv:?}"))?;
                ensure!(status.success(), "{argv:?} failed: {status}");
            }
        }
        let program = self.start.first().context("an empty start command")?;
        for needed in std::iter::once(program).chain(&self.needs) {
            ensure!(is_there(directory, needed), "{needed} is not there; --build builds it");
        }
        Ok(())
    }

    fn publish(&self) -> Result<Publish> {
        match (self.publish.as_str(), self.publish.strip_prefix("post:")) {
            ("message", _) => Ok(Publish::Message(self.broadcast_path.clone())),
            (_, Some(path)) => Ok(Publish::Post(path.to_owned())),
            (other, None) => bail!("{}: publish = {other:?}", self.name),
        }
    }

    fn arguments(&self, job: &Job<'_>, port: u16) -> Vec<String> {
        let values = [
            ("{recv}", job.request.len().to_string()),
            ("{reply}", job.reply.len().to_string()),
            ("{payload}", job.payload.len().to_string()),
            ("{connections}", job.connections.to_string()),
            ("{ping_ms}", job.ping_ms.to_string()),
            ("{role}", job.role.name().to_owned()),
            ("{port}", port.to_string()),
        ];
        let fill = |argument: &String| {
            let filled = argument.clone();
            values.iter().fold(filled, |text, (name, value)| text.replace(name, value))
        };
        self.start.iter().skip(1).map(fill).collect()
    }
}

/// A peer that said its port.
#[derive(Debug)]
pub(crate) struct RunningPeer {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) kind: Kind,
    pub(crate) path: String,
    pub(crate) publish: Publish,
    counts: bool,
    lines: mpsc::Receiver<String>,
}

impl RunningPeer {
    fn start(directory: &Path, peer: &Peer, job: &Job<'_>, launch: &Launch<'_>) -> Result<Self> {
        let mut port = 0;
        if peer.start.iter().any(|argument| argument.contains("{port}")) {
            port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        }
        let program = peer.start.first().context("an empty start command")?;
        let mut command = launch.command(&resolved(directory, program));
        command
            .args(peer.arguments(job, port))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = Child::spawn(&mut command, launch.cpu)?;
        let stdout = child.inner.stdout.take().context("stdout was piped")?;
        let (sender, lines) = mpsc::channel();
        // Ends with the child, whose end closes the pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut this = Self {
            child,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            kind: peer.kind,
            path: match job.role {
                Role::Echo => peer.echo_path.clone(),
                Role::Broadcast => peer.broadcast_path.clone(),
                Role::Accept | Role::FanOut | Role::Pings | Role::Channels => root(),
            },
            publish: peer.publish()?,
            counts: peer.counters == Some(CountsBy::SigUsr1),
            lines,
        };
        let Listening { port } = this.line()?;
        this.address.set_port(port);
        Ok(this)
    }

    pub(crate) fn counters(&self) -> Result<Counters> {
        if !self.counts {
            return Ok(Counters::default());
        }
        self.child.signal(Signal::USR1)?;
        let Counted { enters, system_calls } = self.line()?;
        // A loop that counts nothing else makes no other call.
        let system_calls = system_calls.or(Some(enters));
        Ok(Counters { enters: Some(enters), system_calls, ..Counters::default() })
    }

    /// The next line that is JSON; others are for people.
    fn line<T: for<'a> Deserialize<'a>>(&self) -> Result<T> {
        loop {
            let line =
                self.lines.recv_timeout(PATIENCE).context("it printed no line of JSON in time")?;
            if line.trim_start().starts_with('{') {
                return serde_json::from_str(&line).with_context(|| format!("it printed {line:?}"));
            }
        }
    }
}

/// Its first line.
#[derive(Debug, Deserialize)]
struct Listening {
    port: u16,
}

/// Its answer to SIGUSR1.
#[derive(Debug, Deserialize)]
struct Counted {
    enters: u64,
    system_calls: Option<u64>,
}

fn parse(text: &str) -> Result<Vec<Peer>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        peer: Vec<Peer>,
    }
    let File { peer: peers } = toml::from_str(text)?;
    for (index, peer) in peers.iter().enumerate() {
        let twice = peers[..index].iter().any(|other| other.name == peer.name);
        ensure!(!twice, "two peers are named {}", peer.name);
        ensure!(!peer.name.contains(','), "a comma in the name {}", peer.name);
        ensure!(!peer.limit || peer.kind == Kind::Raw, "{}: a limit is raw", peer.name);
        peer.publish()?;
    }
    Ok(peers)
}

fn command(directory: &Path, argv: &[String]) -> Command {
    let program = argv.first().map_or("", String::as_str);
    let mut command = Command::new(resolved(directory, program));
    command.args(argv.iter().skip(1)).current_dir(directory);
    command
}

/// A program with a slash is relative to the peers, others are looked up in PATH; what cargo builds
/// is where cargo was told to put it.
fn resolved(directory: &Path, program: &str) -> PathBuf {
    if let Some((rest, target)) = program.strip_prefix("target/").zip(TARGET_DIRECTORY.as_ref()) {
        let built = target.join(rest);
        if built.exists() {
            return built;
        }
    }
    if program.contains('/') { directory.join(program) } else { program.into() }
}

/// Where cargo was told to put what it builds.
static TARGET_DIRECTORY: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let directory = std::env::var_os("CARGO_TARGET_DIR")?;
    std::path::absolute(directory).ok()
});

fn is_there(directory: &Path, program: &str) -> bool {
    if program.contains('/') {
        return resolved(directory, program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|place| place.join(program).is_file())
}

const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Job, Kind, Peers, Publish, Role, is_there, parse};

    const TEXT: &str = r#"
        [[peer]]
        name = "raw-poll"
        kind = "raw"
        limit = true
        counters = "SIGUSR1"
        needs = ["a/b"]
        processes = "tree"
        roles = ["echo", "broadcast"]
        start = ["target/release/nobody-built-this", "--recv", "{recv}", "--slots={connections}"]
        [[peer]]
        name = "ws"
        kind = "websocket"
        roles = ["echo"]
        build = [["npm", "ci"]]
        start = ["node", "ws.js", "{role}", "{port}", "{payload}/{reply}"]
        publish = "post:/pub"
        version = ["node", "--version"]
    "#;

    #[test]
    fn a_file_of_peers() {
        let peers = parse(TEXT).unwrap();
        assert_eq!((peers[0].kind, peers[0].limit), (Kind::Raw, true));
        assert_eq!(peers[1].publish().unwrap(), Publish::Post("/pub".into()));
        let job = Job {
            role: Role::Echo,
            payload: b"12345",
            request: b"12345678901",
            reply: b"1234567",
            connections: 64,
            deflate: false,
            ping_ms: 4000,
        };
        assert_eq!(peers[0].arguments(&job, 0), ["--recv", "11", "--slots=64"]);
        assert_eq!(peers[1].arguments(&job, 99), ["ws.js", "echo", "99", "5/7"]);

        for (wrong, right) in [("unknown = 1", ""), ("limit = true", "limit = false")] {
            let text = TEXT.replacen("kind = \"websocket\"", "kind = \"websocket\"\nKEY", 1);
            assert!(parse(&text.replace("KEY", wrong)).is_err(), "{wrong}");
            assert!(parse(&text.replace("KEY", right)).is_ok(), "{right}");
        }
        assert!(parse(&TEXT.replace("\"ws\"", "\"raw-poll\"")).is_err(), "the same name twice");
    }

    /// What is in the repository: every peer can be asked for both roles it names, with nothing left to fill in.
    #[test]
    fn the_file_that_is_there() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let peers = Peers::read(&directory).unwrap();
        assert!(peers.list.iter().any(|peer| peer.limit), "{}", peers.names());
        let job = Job {
            role: Role::Echo,
            payload: b"12345",
            request: b"12345678901",
            reply: b"1234567",
            connections: 64,
            deflate: false,
            ping_ms: 4000,
        };
        for peer in &peers.list {
            assert!(!peer.roles.is_empty() && peer.publish().is_ok(), "{}", peer.name);
            for role in &peer.roles {
                let arguments = peer.arguments(&Job { role: *role, ..job }, 99);
                let unfilled = arguments.iter().find(|argument| argument.contains(['{', '}']));
                assert_eq!(unfilled, None, "{}", peer.name);
            }
        }
    }

    #[test]
    fn the_limit_is_always_among_the_selected() {
        let all = Peers { directory: ".".into(), list: parse(TEXT).unwrap() };
        for (role, names, expected) in [
            (Role::Echo, "all", "raw-poll, ws"),
            (Role::Echo, "none", "raw-poll"),
            (Role::Echo, "ws", "raw-poll, ws"),
            (Role::Broadcast, "all", "raw-poll"),
        ] {
            let mut peers = all.clone();
            peers.select(role, names).unwrap();
            assert_eq!(peers.names(), expected);
        }
        assert!(all.clone().select(Role::Echo, "wss").is_err());
    }

    #[test]
    fn whoever_lacks_the_role_is_named() {
        let all = Peers { directory: ".".into(), list: parse(TEXT).unwrap() };
        for (role, names, expected, lacking) in [
            (Role::Echo, "all", "ws", 0),
            (Role::Broadcast, "all", "", 1),
            (Role::Broadcast, "ws", "", 1),
            (Role::Broadcast, "none", "", 0),
        ] {
            let mut peers = all.clone();
            let missing = peers.select_websockets(role, names).unwrap();
            assert_eq!((peers.names().as_str(), missing.len()), (expected, lacking));
            assert!(missing.iter().all(|peer| peer.name == "ws" && peer.why.contains("broadcast")));
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_the_reason() {
        let mut peers = Peers { directory: "/nonexistent".into(), list: parse(TEXT).unwrap() };
        let missing = peers.prepare(false);
        assert_eq!(missing[0].name, "raw-poll");
        assert!(missing[0].why.contains("target/release/nobody-built-this"), "{}", missing[0].why);
        assert!(is_there(Path::new("/"), "sh") && is_there(Path::new("/"), "bin/sh"));
        assert!(!is_there(Path::new("/"), "no-such-program"));
    }
}
