//! nginx with nchan: a broadcast server from Debian's packages, `nginx` and `libnginx-mod-nchan`.
//!
//! In: subscribers by WebSocket on `/sub`, publications by `POST /pub`. Out: each publication to all
//! subscribers. There is no echo.
//!
//! This program opens the listening socket as the other peers do, writes a configuration, says which
//! port it is and then *becomes* nginx, which takes the socket over the way it does when its binary is
//! replaced (the variable `NGINX` names the descriptor). The process that the lab started is then the
//! master, and its only child, one worker, is the one that serves: nchan does not run without a master.

#![allow(clippy::print_stderr, reason = "stderr says what is missing")]

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use peer::{Arguments, Role};

fn main() -> ExitCode {
    let arguments = Arguments::from_command_line();
    if arguments.role != Role::Broadcast {
        eprintln!("peer-nginx: only --role broadcast");
        return ExitCode::from(2);
    }
    match become_nginx(&arguments) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("peer-nginx: {error} (Debian packages nginx and libnginx-mod-nchan)");
            ExitCode::FAILURE
        }
    }
}

fn become_nginx(arguments: &Arguments) -> io::Result<std::convert::Infallible> {
    for needed in [NGINX, NCHAN] {
        if !Path::new(needed).exists() {
            return Err(io::Error::other(format!("{needed} is not installed")));
        }
    }
    let listener = peer::listen(arguments)?;
    let address = listener.local_addr()?;
    let directory = std::env::temp_dir().join("headwater-peer-nginx");
    fs::create_dir_all(&directory)?;
    let file = directory.join(format!("{}.conf", address.port()));
    fs::write(&file, configuration(address))?;
    // It survives the change of the program.
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty())?;
    peer::announce(address);
    Err(Command::new(NGINX)
        .arg("-p")
        .arg(&directory)
        .arg("-c")
        .arg(&file)
        .args(["-e", "stderr"])
        .env("NGINX", format!("{};", listener.as_raw_fd()))
        .exec())
}

/// One worker, no logs, nothing on disk, one channel. A subscriber gets what is published from its
/// coming on; nchan's authors advise against keeping no messages at all, so it keeps a few.
fn configuration(address: SocketAddr) -> String {
    let port = address.port();
    format!(
        "load_module {NCHAN};
daemon off;
worker_processes 1;
pid {port}.pid;
error_log stderr error;
events {{
    use epoll;
    worker_connections 19900;
    multi_accept on;
}}
http {{
    access_log off;
    tcp_nodelay on;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size 1m;
    client_body_buffer_size 1m;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    nchan_message_buffer_length 16;
    nchan_message_timeout 10s;
    server {{
        listen {address} backlog=65535;
        location = /sub {{
            nchan_subscriber websocket;
            nchan_subscriber_first_message newest;
            nchan_subscriber_timeout 0;
            nchan_channel_id all;
        }}
        location = /pub {{
            nchan_publisher http;
            nchan_channel_id all;
        }}
    }}
}}
"
    )
}

const NGINX: &str = "/usr/sbin/nginx";
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
