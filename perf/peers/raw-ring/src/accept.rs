//! The limit of a handshake: accept, and one send.
//!
//! In: connections. Out: `--reply` bytes to each, at once; nothing is received. Invariants as in
//! `main.rs`; with `--skip-success` a send that succeeds has no completion. Connections are kept until
//! the process ends, because to see them end would be an operation more than the two that are the limit.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::arguments::Arguments;
use crate::ring::{Kind, Queue, Token};
use crate::signals::Signals;

/// Accepts until SIGTERM or SIGINT.
pub(crate) fn serve(arguments: &Arguments, listener: RawFd, port: u16) -> io::Result<()> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_clamp()
        .setup_cqsize(32_768)
        .build(4096)?;
    let no_iowait = ring.params().is_feature_no_iowait() && !arguments.iowait;
    let (mut submitter, sq, mut cq) = ring.split();
    submitter.register_ring_fd()?;
    submitter.register_files_sparse(arguments.slots)?;
    let mut queue = Queue::new(submitter, sq, no_iowait);
    let signals = Signals::new()?;
    let reply = vec![b'x'; arguments.reply as usize];
    let flags = match arguments.skip_success {
        true => squeue::Flags::SKIP_SUCCESS,
        false => squeue::Flags::empty(),
    };
    let (mut accepted, mut sends, mut trouble) = (0_u64, 0_u64, 0_u64);
    arm_accept(&mut queue, listener);
    arm_signals(&mut queue, &signals);
    println!("{{\"port\":{port}}}");
    loop {
        queue.submit_and_wait(arguments.wait_batch, arguments.min_wait_usec)?;
        cq.sync();
        for completion in &mut cq {
            let token = Token::decode(completion.user_data());
            match (token.kind, u32::try_from(completion.result())) {
                (Kind::Accept, result) => {
                    if !cqueue::more(completion.flags()) {
                        arm_accept(&mut queue, listener);
                    }
                    let Ok(slot) = result else {
                        trouble += 1;
                        continue;
                    };
                    accepted += 1;
                    sends += 1;
                    let token = Token { kind: Kind::Send, generation: 0, lease: 0, slot };
                    let entry = opcode::Send::new(Fixed(slot), reply.as_ptr(), arguments.reply)
                        .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                        .build()
                        .flags(flags)
                        .user_data(token.encode());
                    // SAFETY: the reply is that long, immutable and outlives the loop.
                    unsafe { queue.push(&entry) };
                }
                (Kind::Signal, _) => {
                    let stop = signals.drain();
                    let enters = queue.enters;
                    println!(
                        "{{\"messages\":{accepted},\"enters\":{enters},\"receives\":0,\
                         \"sends\":{sends},\"accepted\":{accepted},\"closed\":0,\
                         \"trouble\":{trouble}}}"
                    );
                    if stop {
                        return Ok(());
                    }
                    arm_signals(&mut queue, &signals);
                }
                (_, result) => trouble += u64::from(result != Ok(arguments.reply)),
            }
        }
        cq.sync();
    }
}

fn arm_accept(queue: &mut Queue<'_>, listener: RawFd) {
    let token = Token { kind: Kind::Accept, generation: 0, lease: 0, slot: 0 };
    let entry = opcode::AcceptMulti::new(Fd(listener))
        .allocate_file_index(true)
        .build()
        .user_data(token.encode());
    // SAFETY: multishot accept stores no address; the listener outlives the loop.
    unsafe { queue.push(&entry) };
}

fn arm_signals(queue: &mut Queue<'_>, signals: &Signals) {
    let token = Token { kind: Kind::Signal, generation: 0, lease: 0, slot: 0 };
    let entry =
        opcode::PollAdd::new(Fd(signals.wake.as_raw_fd()), 1).build().user_data(token.encode());
    // SAFETY: a poll refers to no memory; the socket outlives the loop.
    unsafe { queue.push(&entry) };
}
