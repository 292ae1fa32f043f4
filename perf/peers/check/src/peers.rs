//! What `peers.toml` says, and a peer that runs.
//!
//! In: the file beside the workspace. Out: processes that are always reaped.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use serde::Deserialize;

use crate::Result;

#[derive(Debug, Deserialize)]
struct File {
    peer: Vec<Peer>,
}

/// One `[[peer]]`; what only the lab needs is not read here.
#[derive(Debug, Deserialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) roles: Vec<String>,
    start: Vec<String>,
    /// Files that are there when it is installed, beside the program itself.
    #[serde(default)]
    needs: Vec<PathBuf>,
    pub(crate) echo_path: Option<String>,
    pub(crate) broadcast_path: Option<String>,
    pub(crate) publish: Option<String>,
}

pub(crate) fn read() -> Result<Vec<Peer>> {
    let text = std::fs::read_to_string(workspace().join("peers.toml"))?;
    let file: File = toml::from_str(&text)?;
    Ok(file.peer)
}

impl Peer {
    /// A file without which it cannot start.
    pub(crate) fn missing(&self) -> Option<String> {
        let program = self.program();
        let found = if program.components().count() > 1 {
            program.exists()
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|directory| directory.join(&program).exists())
        };
        if !found {
            return Some(program.display().to_string());
        }
        let mut needs = self.needs.iter().map(|need| workspace().join(need));
        needs.find(|need| !need.exists()).map(|need| need.display().to_string())
    }

    /// A bare name is looked up in PATH; `target/` is wherever cargo was told to build.
    fn program(&self) -> PathBuf {
        let Some(program) = self.start.first() else { return PathBuf::new() };
        let built = program.strip_prefix("target/").zip(std::env::var_os("CARGO_TARGET_DIR"));
        match built {
            // It is started from another folder than the one that a relative path is told from.
            Some((rest, target)) => {
                let target = std::path::absolute(&target).unwrap_or_else(|_| target.into());
                target.join(rest)
            }
            None if program.contains('/') => workspace().join(program),
            None => program.into(),
        }
    }
}

/// For many connections; a child inherits it.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Best effort: with less, opening that many connections fails and says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The bytes of one message each way.
pub(crate) struct Wire {
    pub(crate) payload: Vec<u8>,
    /// A masked text frame.
    pub(crate) request: Vec<u8>,
    /// The same, as a server sends it.
    pub(crate) reply: Vec<u8>,
}

impl Wire {
    pub(crate) fn of(length: usize) -> Self {
        let payload: Vec<u8> = (b'a'..=b'z').cycle().take(length).collect();
        let request = masked(&payload);
        let mut reply = frame_head(length, 0);
        reply.extend(&payload);
        Self { payload, request, reply }
    }

    /// What brings it to a channel.
    pub(crate) fn publication(&self, channel: usize) -> Vec<u8> {
        masked(&[format!("{channel} ").as_bytes(), &self.payload].concat())
    }
}

fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = frame_head(payload.len(), 0x80);
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// RFC 6455 5.2: FIN and text, then the length in its shortest form.
fn frame_head(length: usize, masked: u8) -> Vec<u8> {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => vec![0x81, masked | short],
        (_, Ok(medium)) => {
            let [high, low] = medium.to_be_bytes();
            vec![0x81, masked | 126, high, low]
        }
        _ => unreachable!("the check's messages are below 64 KiB"),
    }
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A started peer.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Running {
    pub(crate) fn start(peer: &Peer, role: &str, wire: &Wire, connections: usize) -> Result<Self> {
        let value = |argument: &String| {
            argument
                .replace("{recv}", &wire.request.len().to_string())
                .replace("{reply}", &wire.reply.len().to_string())
                .replace("{payload}", &wire.payload.len().to_string())
                .replace("{connections}", &connections.to_string())
                .replace("{ping_ms}", PING_MS)
                .replace("{role}", role)
                .replace("{port}", "0")
        };
        let child = Command::new(peer.program())
            .args(peer.start.iter().skip(1).map(value))
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut this = Self { child, address: (Ipv4Addr::LOCALHOST, 0).into() };
        let line = this.first_line()?;
        let listening: Listening =
            serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))?;
        this.address.set_port(listening.port);
        Ok(this)
    }

    /// Reads on behind it, so that the peer's later lines do not fill the pipe.
    fn first_line(&mut self) -> Result<String> {
        let stdout = self.child.stdout.take().ok_or("stdout was piped")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                // Only the first line is waited for.
                let _ = sender.send(line);
            }
        });
        Ok(lines.recv_timeout(PATIENCE).map_err(|_| "it printed no line")?)
    }

    /// SIGTERM; it must end by itself, and well.
    pub(crate) fn end(mut self) -> Result {
        match self.terminate()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("after SIGTERM: {status}").into()),
            None => Err("it did not end after SIGTERM".into()),
        }
    }

    fn terminate(&mut self) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `end` all three are without effect.
        let _ = self.terminate();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Deserialize)]
struct Listening {
    port: u16,
}

/// The shortest that all of them keep.
const PING_MS: &str = "4000";
const PATIENCE: Duration = Duration::from_secs(10);
