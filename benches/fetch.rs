//! Small files over loopback: `orch queue run` (hashing, syncing, recording) beside `curl -Z` of the same URLs, both from
//! nginx. Prints orch's time as a multiple of curl's, measured in turns.
//!
//! `cargo bench --bench fetch [-- RUNS [FILES]]`; needs `nginx` and `curl` on the PATH and says so when they are not there.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use common::{bench, numbers, said};
use orch::bench::fetch::{FILE_BYTES, fetch};
use orch::bench::figures::Figures;

const PARALLEL: usize = 8;

/// The origin; ends with the bench.
struct Nginx {
    child: Child,
    port: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() {
    let [runs, files] = numbers([5, 10_000]);
    for needed in ["nginx", "curl"] {
        if Command::new(needed)
            .arg("-V")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            println!("skipped: there is no {needed} on the PATH");
            return;
        }
    }
    let bench = bench();
    let folder = bench.fresh().expect("a folder");
    let root = folder.path();
    make_files(root, files);
    let nginx = serve(root);
    let urls = |n| format!("http://127.0.0.1:{}/{n}.pdf\n", nginx.port);
    let list: String = (0..files).map(urls).collect();
    println!("{files} files of {FILE_BYTES} bytes, {PARALLEL} at a time");
    println!("run   curl s   orch s   x curl");
    let mut ratios = Figures::default();
    for run in 1..=runs {
        // A fresh folder for both, and nothing removed in between: file systems are slow to use again what was just freed.
        let place = root.join(format!("run{run}"));
        fs::create_dir(&place).expect("a folder for the run");
        let config = curl_config(&place, &list);
        let (status, curl) = bench.timed(|| Ok(curl_all(&config))).expect("curl");
        assert!(status.success(), "curl has them all");
        let orch = fetch(&bench, &place, &list, files, PARALLEL).expect("orch");
        let ratio = orch.as_secs_f64() / curl.as_secs_f64();
        println!("{run:>3} {:>8.3} {:>8.3} {ratio:>8.2}", curl.as_secs_f64(), orch.as_secs_f64());
        ratios.push(ratio);
    }
    let particulars = format!("{files} files of {FILE_BYTES} bytes; {runs} runs");
    said("fetch", &format!("{} x curl -Z", &ratios), &particulars, "at most 1.5");
}

/// The files: PDFs that differ.
fn make_files(root: &Path, files: usize) {
    fs::create_dir(root.join("www")).expect("a folder for files");
    for n in 0..files {
        let mut bytes = format!("%PDF-1.4\n% {n}\n").into_bytes();
        bytes.resize(FILE_BYTES - 30, b'x');
        bytes.extend_from_slice(b"\nstartxref\n9\n%%EOF\n");
        fs::write(root.join("www").join(format!("{n}.pdf")), bytes).expect("a file");
    }
}

fn serve(root: &Path) -> Nginx {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    drop(listener);
    let root = root.display();
    let text = format!(
        "daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/nginx.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 1000000;\n\
           client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;\n\
           uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;\n\
           server {{ listen 127.0.0.1:{port}; root {root}/www; }} }}\n"
    );
    let path = PathBuf::from(format!("{root}/nginx.conf"));
    fs::write(&path, text).expect("its configuration");
    let child = Command::new("nginx").arg("-c").arg(&path).stderr(Stdio::null()).spawn();
    let nginx = Nginx { child: child.expect("nginx"), port };
    while TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(5))
        .is_err()
    {
        std::thread::yield_now();
    }
    nginx
}

fn curl_config(root: &Path, list: &str) -> PathBuf {
    fs::create_dir(root.join("curl")).expect("a folder for curl");
    let path = root.join("curl.txt");
    let mut file = fs::File::create(&path).expect("curl's list");
    for (n, url) in list.lines().enumerate() {
        let out = root.join("curl").join(format!("{n}.pdf"));
        writeln!(file, "url = \"{url}\"\noutput = \"{}\"", out.display()).expect("a line");
    }
    path
}

fn curl_all(config: &Path) -> ExitStatus {
    let status = Command::new("curl")
        .args(["-Z", "--parallel-max", &PARALLEL.to_string(), "-s", "-K"])
        .arg(config)
        .stderr(Stdio::null())
        .status();
    status.expect("curl")
}
