//! A child process in a group of its own: its lines, its end, and no way to outlive the test.
//!
//! In: a command. Out: the lines of stdout and stderr as they come, the exit status within a deadline. Invariant: when
//! the value is dropped, also by a failed assertion, the whole group is killed and the child is reaped.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: Pid,
    /// Readable when the child has ended.
    ended: OwnedFd,
    lines: Receiver<String>,
    /// Every line that was taken from `lines`, for failures.
    seen: Vec<String>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; its standard input is empty.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let number = i32::try_from(child.id()).expect("a process id");
        let pid = Pid::from_raw(number).expect("a process id is not 0");
        let ended = pidfd_open(pid, PidfdFlags::empty()).expect("a descriptor of our child");
        let (sender, lines) = channel();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let readers = vec![
            forward(stdout.expect("stdout is piped"), sender.clone()),
            forward(stderr.expect("stderr is piped"), sender),
        ];
        Self { name, child, pid, ended, lines, seen: Vec::new(), readers }
    }

    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for a line that contains `wanted` and returns it.
    pub(crate) fn wait_for_line(&mut self, wanted: &str, within: Duration) -> String {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(wanted) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{}: no {wanted:?} in {within:?}; said:\n{}", self.name, self.text())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{}: ended without {wanted:?}; said:\n{}", self.name, self.text())
                }
            }
        }
    }

    /// The program itself gets a signal, not its children.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("our child can be signalled");
    }

    /// Waits until the program ends by itself.
    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        let timeout = Timespec::try_from(within).expect("a short time");
        let mut polled = [PollFd::new(&self.ended, PollFlags::IN)];
        let ready = poll(&mut polled, Some(&timeout)).expect("a descriptor of our child");
        if ready == 0 {
            self.take_lines();
            panic!("{} still runs after {within:?}; said:\n{}", self.name, self.text());
        }
        let status = self.child.wait().expect("our child has ended");
        self.take_lines();
        status
    }

    /// Waits for the end, which must be a success, and returns what was said.
    pub(crate) fn succeed(&mut self, within: Duration) -> String {
        let status = self.wait(within);
        assert!(status.success(), "{}: {status}; said:\n{}", self.name, self.text());
        self.text()
    }

    /// Everything said so far.
    pub(crate) fn text(&self) -> String {
        self.seen.join("\n")
    }

    /// After the end: what is left in the pipes. Children that inherited a pipe do not hold this up.
    fn take_lines(&mut self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) {
            self.seen.push(line);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group lives as long as one of its processes; an empty one is not an error here.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            while let Ok(line) = self.lines.try_recv() {
                self.seen.push(line);
            }
            let from = self.seen.len().saturating_sub(40);
            eprintln!("last lines of {}:\n{}", self.name, self.seen[from..].join("\n"));
        }
    }
}

fn forward(pipe: impl Read + Send + 'static, sender: Sender<String>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            // Nobody listens any more: the pipe is still emptied, so that the child does not block.
            let _ = sender.send(text);
            line.clear();
        }
    })
}
