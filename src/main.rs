//! Arguments to a configuration, a configuration to a server.

use clap::{Args, Parser, Subcommand};
use headwater::config::{Config, Flags, LogFormat, LogLevel};
use headwater::connection::Role;
use headwater::memory::Counting;
use headwater::server::{Server, drain};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Counting<mimalloc::MiMalloc> = Counting(mimalloc::MiMalloc);

/// The origin of live streams.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve with built-in defaults on the loopback, with a live stream and messages of its own
    Demo(Serve),
    /// Serve
    Serve(Serve),
    /// Check a configuration and print it with all defaults
    Check {
        /// The file
        #[arg(long)]
        config: PathBuf,
    },
    /// Say what this kernel and machine give, how many connections fit, and what to set
    Probe {
        /// Say what to set for so many connections
        #[arg(long)]
        connections: Option<NonZeroU32>,
    },
    /// Make keys
    Token {
        #[command(subcommand)]
        kind: Token,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// The configuration; flags override it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where to speak HTTP
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Where to take RTMP publishers
    #[arg(long)]
    rtmp: Option<SocketAddr>,
    /// Threads that serve; one per core without it
    #[arg(long)]
    shards: Option<NonZeroU32>,
    /// What to log: error, warn, info, debug or trace
    #[arg(long)]
    log: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
enum Token {
    /// A key for publishing streams, with the lines for the configuration
    StreamKey {
        /// The streams it opens, as `live/cam` or `live/*`
        #[arg(long, default_value = "live/*")]
        stream: String,
    },
    /// A key for the API and metrics, with the lines for the configuration
    ApiKey,
}

/// Bad usage or configuration.
const EXIT_USAGE: u8 = 2;
/// Failed while running.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Demo(serve) => with_config(&serve, |config| run(config, true)),
        Command::Serve(serve) => with_config(&serve, |config| run(config, false)),
        Command::Check { config } => check(&config),
        Command::Probe { connections } => probe(connections),
        Command::Token { kind } => token(&kind),
    }
}

/// Writes a line for people; a closed pipe is their wish.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "headwater: {text}");
}

fn with_config(serve: &Serve, run: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    let flags = Flags { http: serve.http, rtmp: serve.rtmp, shards: serve.shards, log: serve.log };
    match Config::load_with(serve.config.as_deref(), &flags) {
        Ok(config) => {
            start_log(&config);
            for warning in config.warnings() {
                tracing::warn!("{warning}");
            }
            run(&config)
        }
        Err(error) => {
            complain(error);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn start_log(config: &Config) {
    let level = match config.log.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        // Else it complains on stderr of a stderr that nobody reads, which panics: the thread is gone, and
        // with it the server, or its ear for signals.
        .log_internal_errors(false);
    match config.log.format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

fn run(config: &Config, is_demo: bool) -> ExitCode {
    // Before any thread exists, so that every thread inherits the handlers.
    let signals = match Signals::new([SIGTERM, SIGINT, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            complain(format_args!("cannot listen for signals: {error}"));
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let mut server = match Server::start(config) {
        Ok(server) => server,
        Err(error) => {
            complain(error);
            return ExitCode::from(EXIT_FAILED);
        }
    };
    for (role, address) in server.addresses() {
        let name = match role {
            Role::Http => "http",
            Role::Rtmp => "rtmp",
            Role::Echo => "echo",
        };
        tracing::info!(%address, "serving {name}");
    }
    for path in server.paths() {
        tracing::info!(path = %path.display(), "serving http");
    }
    let demo = is_demo.then(|| Demo::start(&mut server));
    let senders = server.take_senders();
    let handle = signals.handle();
    let listener = std::thread::Builder::new()
        .name("signals".to_string())
        .spawn(move || on_signals(signals, senders));
    let result = server.wait();
    drop(demo);
    handle.close();
    if let Ok(listener) = listener {
        // It ends when the handle is closed.
        let _ = listener.join();
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// The first SIGTERM or SIGINT drains, the second stops at once.
fn on_signals(
    mut signals: Signals,
    mut senders: Vec<headwater::mailbox::SideSender<headwater::shard::Mail>>,
) {
    for signal in signals.forever() {
        if signal == SIGHUP {
            tracing::info!(
                "nothing of the configuration can be reloaded yet; restart to change it"
            );
        } else {
            tracing::info!("draining; once more to stop at once");
            drain(&mut senders);
        }
    }
}

/// The threads that feed the demo.
struct Demo {
    #[cfg(feature = "av1")]
    _encoder: Option<headwater::encode::worker::Worker>,
    _stop: std::sync::mpsc::Sender<()>,
}

impl Demo {
    fn start(server: &mut Server) -> Self {
        let mut senders = server.side_senders();
        if let Some(http) = server.address(Role::Http) {
            say(format_args!("console   http://{http}/"));
            say(format_args!("examples  http://{http}/examples/"));
            say(format_args!("stream    http://{http}/live/demo/index.m3u8"));
            say(format_args!("          http://{http}/live/demo/manifest.mpd"));
            say(format_args!("messages  ws://{http}/ws/demo   http://{http}/sse/demo"));
            say(format_args!("publish   curl -d hello http://{http}/pub/demo"));
        }
        if let Some(rtmp) = server.address(Role::Rtmp) {
            say(format_args!("RTMP in   rtmp://{rtmp}/live/NAME"));
        }
        let (stop, stopped) = std::sync::mpsc::channel();
        if let Some(sender) = senders.pop() {
            let started = std::thread::Builder::new()
                .name("messages".to_string())
                .spawn(move || headwater::demo::publish_messages(sender, &stopped));
            if let Err(error) = started {
                complain(format_args!("no messages: {error}"));
            }
        }
        #[cfg(feature = "av1")]
        {
            let encoder = senders.pop().and_then(start_encoder);
            if let Some(worker) = &encoder {
                let counters = std::sync::Arc::clone(worker.counters());
                server.board().add_side(move || counters.all());
            }
            Self { _encoder: encoder, _stop: stop }
        }
        #[cfg(not(feature = "av1"))]
        Self { _stop: stop }
    }
}

#[cfg(feature = "av1")]
fn start_encoder(
    sender: headwater::mailbox::SideSender<headwater::shard::Mail>,
) -> Option<headwater::encode::worker::Worker> {
    use headwater::encode::demo::{choose, start};
    let choice = match choose() {
        Ok(choice) => choice,
        Err(error) => {
            complain(format_args!("no picture: {error}"));
            return None;
        }
    };
    say(format_args!("picture   {choice}"));
    let sink = headwater::demo::StreamSink::new(sender);
    start(&choice, Box::new(sink))
        .inspect_err(|error| complain(format_args!("no picture: {error}")))
        .ok()
}

fn check(path: &std::path::Path) -> ExitCode {
    match Config::load(path) {
        Ok(config) => {
            say(config.to_toml().trim_end());
            for warning in config.warnings() {
                complain(format_args!("note: {warning}"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(error);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn probe(connections: Option<NonZeroU32>) -> ExitCode {
    let target = connections.map(|count| u64::from(count.get()));
    let report = headwater::server::probe(target);
    say(&report);
    if report.is_usable() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

fn token(kind: &Token) -> ExitCode {
    let key = match random_key() {
        Ok(key) => key,
        Err(error) => {
            complain(format_args!("no entropy: {error}"));
            return ExitCode::from(EXIT_FAILED);
        }
    };
    match kind {
        Token::StreamKey { stream } => {
            say(format_args!("# publish to rtmp://HOST/APP/NAME?key={key}"));
            say(format_args!("[[auth.publish]]\nstream = {stream:?}\nkey = \"{key}\""));
        }
        Token::ApiKey => {
            say(format_args!("# send as Authorization: Bearer {key}"));
            say(format_args!("[auth]\napi_keys = [\"{key}\"]"));
        }
    }
    ExitCode::SUCCESS
}

/// 192 bits of the system's entropy, in hexadecimal.
fn random_key() -> std::io::Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
