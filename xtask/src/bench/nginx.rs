//! What of its throughput nginx keeps while every observer is attached and its cgroup is a container.
//!
//! The server runs in a cgroup of its own on loopback, with one worker; `wrk` loads it from the other side. Rounds without
//! and with the observers alternate.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bulkhead_tests::{
    command::{exists, output},
    requirement::cgroup2,
};
use serde_json::{Value, json};

use super::{Bound, Figure, syscalls};
use crate::outcome::Refusal;

/// Seconds of load in one round.
const SECONDS: u32 = 3;

pub(super) fn run(rounds: usize) -> anyhow::Result<(Value, Vec<Figure>)> {
    if !exists("nginx") || !exists("wrk") {
        bail!(Refusal::Machine("nginx or wrk is missing: run `cargo xtask setup bench`".into()));
    }
    let program = syscalls::program()?;
    let server = Server::start()?;
    println!("bench: {rounds} rounds of nginx under wrk, {} s each", 2 * (SECONDS + 1));
    // The first load of all warms caches up and is not counted.
    server.requests_per_second()?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(server.requests_per_second()?);
        let observer = Observer::start(&program, &server.cgroup)?;
        beside.push(server.requests_per_second()?);
        observer.end()?;
    }
    let (alone, beside) = (median(&mut alone), median(&mut beside));
    let figure = Figure {
        name: "of its throughput kept by nginx under wrk",
        value: beside / alone,
        bound: Bound::AtLeast(0.93),
    };
    Ok((json!({ "requests_per_second": { "none": alone, "observe": beside } }), vec![figure]))
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// nginx in a cgroup of its own; ends, and takes its traces along, when dropped.
struct Server {
    child: Child,
    cgroup: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let id = std::process::id();
        let hierarchy = cgroup2()
            .ok_or_else(|| Refusal::Machine("no cgroup v2 hierarchy is mounted".into()))?;
        let folder = std::env::temp_dir().join(format!("bulkhead-bench-{id}"));
        fs::create_dir(&folder)?;
        let cgroup = hierarchy.join(format!("bulkhead-nginx-{id}"));
        fs::create_dir(&cgroup)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, text(&folder, port))?;
        let child = Command::new("sh")
            .args(["-c", "echo $$ > \"$1/cgroup.procs\" && exec nginx -c \"$2\"", "sh"])
            .arg(&cgroup)
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start nginx")?;
        let server = Self { child, cgroup, folder, port };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                bail!("nginx does not listen");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    fn requests_per_second(&self) -> anyhow::Result<f64> {
        let text = output(Command::new("wrk").args([
            "-t1",
            "-c16",
            &format!("-d{SECONDS}s"),
            &format!("http://127.0.0.1:{}/", self.port),
        ]))?;
        requests_per_second(&text).context("what wrk printed is not understood")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // nginx ends its worker when it is asked to end; a kill would leave it behind.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
        for _ in 0..50 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn text(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"hello\\n\"; }} }}
}}
"
    )
}

fn requests_per_second(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok())
}

/// The observers, with the server's cgroup as a container, in a process of their own.
struct Observer(Child);

impl Observer {
    fn start(program: &Path, cgroup: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg("hold")
            .arg(cgroup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the observers")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("its output was asked for")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            child.wait()?;
            bail!("the observers did not start");
        }
        Ok(Self(child))
    }

    fn end(mut self) -> anyhow::Result<()> {
        // It ends with its standard input.
        drop(self.0.stdin.take());
        if !self.0.wait()?.success() {
            bail!("the observers failed under load");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_is_read_from_what_wrk_prints() {
        let text =
            "  120 requests in 1.00s, 20KB read\nRequests/sec:  61234.56\nTransfer/sec: 9MB\n";
        assert_eq!(requests_per_second(text), Some(61_234.56));
        assert_eq!(requests_per_second("unable to connect"), None);
    }
}
