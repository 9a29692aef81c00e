//! Against real sockets: a collector that takes everything, one that is not there, one that never answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crossbeam_channel::{Receiver, Sender, unbounded};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as Pair};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use prost::Message;

use super::super::fixtures::{done, failed, leased, retried};
use super::super::otel_settings::tests::settings;
use super::*;
use crate::job::Key;
use crate::run::event::Progress;

/// Ample for a loaded machine; only a hang reaches it.
const AMPLE: Duration = Duration::from_secs(120);

struct Post {
    path: String,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

/// A collector on loopback that acknowledges what it gets.
fn collector() -> (SocketAddr, Receiver<Post>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (got, posts) = unbounded();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let got = got.clone();
            thread::spawn(move || while answer(&stream, &got).is_some() {});
        }
    });
    (address, posts)
}

/// Takes one request from `stream`; `None` when there is no further one.
fn answer(mut stream: &TcpStream, got: &Sender<Post>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let path = head.split(' ').nth(1)?.to_owned();
    head.make_ascii_lowercase();
    let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    got.send(Post { path, head, body }).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
}

fn otel_to(address: SocketAddr) -> Otel {
    let endpoint = format!("http://{address}");
    let settings = settings(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=reading%20room"),
        ("OTEL_SERVICE_NAME", "harvest"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
        // So long that no test ends because a request did.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
    ]);
    Otel::start(&settings.unwrap().unwrap()).unwrap()
}

fn tell_a_short_run(otel: &Otel) {
    let job = leased("doi:10.1/a");
    let key = Key::default();
    let progress = |queued| Progress {
        queue: Counts { queued, done: 3, ..Counts::default() },
        ..Progress::default()
    };
    otel.on(&Event::Progress(&progress(99)));
    otel.on(&Event::JobSettled(done(&job)));
    otel.on(&Event::JobSettled(done(&job)));
    otel.on(&Event::JobSettled(failed(&job, "HTTP 404")));
    otel.on(&Event::JobSettled(retried(&job, "HTTP 503")));
    let queued = Settled { state: Some(State::Queued), reason: None, ..done(&job) };
    otel.on(&Event::JobSettled(Settled { deferred_to: Some(&key), ..queued }));
    // Leased and given back without a start: no attempt was made.
    let queued = Settled { state: Some(State::Queued), reason: None, ..done(&job) };
    otel.on(&Event::JobSettled(Settled { worker: None, ..queued }));
    let transition = Transition::Opened { until: crate::job::Mono::default() };
    for host in ["a.org", "b.org"] {
        let key = LimitKey::Host(host.into());
        otel.on(&Event::Breaker { key: &key, transition, until: Some(WallMs(0)) });
    }
    let (key, transition) = (LimitKey::Resolver("arxiv".into()), Transition::Closed);
    otel.on(&Event::Breaker { key: &key, transition, until: None });
    otel.on(&Event::Progress(&progress(42)));
}

/// `key=value` for each attribute, sorted, with a space between.
fn told(attributes: &[Pair]) -> String {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let mut pairs: Vec<_> =
        attributes.iter().map(|pair| format!("{}={}", pair.key, text(&pair.value))).collect();
    pairs.sort();
    pairs.join(" ")
}

fn check_resource(attributes: &[Pair]) {
    let told = told(attributes);
    for pair in ["service.name=harvest", "deployment.environment=test", "service.instance.id="] {
        assert!(told.contains(pair), "{pair} in {told}");
    }
}

#[test]
fn a_collector_gets_a_span_for_every_attempt_and_every_metric() {
    let (address, posts) = collector();
    let otel = otel_to(address);
    tell_a_short_run(&otel);
    assert_eq!(otel.shutdown(AMPLE), Delivery { in_time: true, spans_lost: 0 });

    let posts: Vec<_> = posts.try_iter().collect();
    let mut paths: Vec<_> = posts.iter().map(|post| post.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/v1/metrics", "/v1/traces"]);
    for post in &posts {
        assert!(post.head.contains("content-type: application/x-protobuf"), "{}", post.head);
        assert!(post.head.contains("x-team: reading room"), "{}", post.head);
        match post.path.as_str() {
            "/v1/traces" => check_spans(&post.body),
            _ => check_metrics(&post.body),
        }
    }
}

fn check_spans(body: &[u8]) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let [resource] = &request.resource_spans[..] else { panic!("{request:?}") };
    check_resource(&resource.resource.as_ref().unwrap().attributes);
    let [scope] = &resource.scope_spans[..] else { panic!("{resource:?}") };
    assert_eq!(scope.scope.as_ref().unwrap().name, "orch");
    let spans: Vec<_> = scope.spans.iter().map(|span| told(&span.attributes)).collect();
    let line = |outcome: &str, reason: &str| {
        format!(
            "artifact_id=doi:10.1/a attempt=2 job_id=7 kind=fetch outcome={outcome}{reason} \
             worker_id=4"
        )
    };
    assert_eq!(
        spans,
        [
            line("done", " reason=ok"),
            line("done", " reason=ok"),
            line("error", " reason=http_status"),
            line("retry", " reason=http_status"),
            line("deferred", ""),
        ]
    );
    let statuses: Vec<_> = scope
        .spans
        .iter()
        .map(|span| span.status.as_ref().map_or("", |status| status.message.as_str()))
        .collect();
    assert_eq!(statuses, ["", "", "HTTP 404", "HTTP 503", ""]);
    for span in &scope.spans {
        assert_eq!(span.name, "orch.job");
        assert_eq!(span.start_time_unix_nano, 1_767_323_045_000_000_000);
        assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 250_000_000);
        assert_eq!(span.parent_span_id, Vec::<u8>::new());
    }
}

fn check_metrics(body: &[u8]) {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let [resource] = &request.resource_metrics[..] else { panic!("{request:?}") };
    check_resource(&resource.resource.as_ref().unwrap().attributes);
    let metrics = &resource.scope_metrics[0].metrics;
    let points = |name: &str| {
        let metric = metrics.iter().find(|metric| metric.name == name).unwrap();
        let mut points = points_of(metric);
        points.sort();
        points
    };
    assert_eq!(
        points("orch.queue.depth"),
        ["state=done: 3", "state=error: 0", "state=in_progress: 0", "state=queued: 42"]
            .into_iter()
            .chain(["state=skipped: 0"])
            .collect::<Vec<_>>()
    );
    assert_eq!(
        points("orch.jobs.completed"),
        ["kind=fetch outcome=done reason=ok: 2", "kind=fetch outcome=error reason=http_status: 1"]
    );
    assert_eq!(
        points("orch.breaker.transitions"),
        ["kind=host transition=opened: 2", "kind=resolver transition=closed: 1"]
    );
    assert_eq!(
        points("orch.job.duration"),
        [
            "kind=fetch outcome=deferred: 1 in 0.25 s",
            "kind=fetch outcome=done: 2 in 0.5 s",
            "kind=fetch outcome=error: 1 in 0.25 s",
            "kind=fetch outcome=retry: 1 in 0.25 s",
        ]
    );
}

/// `attributes: value` for each point.
fn points_of(metric: &Metric) -> Vec<String> {
    let (points, histogram) = match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => (&gauge.data_points, None),
        Data::Sum(sum) => {
            assert!(sum.is_monotonic);
            (&sum.data_points, None)
        }
        Data::Histogram(histogram) => (&Vec::new(), Some(histogram)),
        other => panic!("{other:?}"),
    };
    let number = |value: &Option<number_data_point::Value>| match value {
        Some(number_data_point::Value::AsInt(number)) => *number,
        other => panic!("{other:?}"),
    };
    let plain =
        points.iter().map(|point| format!("{}: {}", told(&point.attributes), number(&point.value)));
    let timed = histogram.iter().flat_map(|histogram| &histogram.data_points).map(|point| {
        assert_eq!(point.explicit_bounds, BUCKETS_SECONDS);
        format!("{}: {} in {} s", told(&point.attributes), point.count, point.sum())
    });
    plain.chain(timed).collect()
}

const MANY: u64 = 10_000;

/// A run of [`MANY`] jobs and its end, beside a collector at `address` that takes nothing.
fn run_without_a_collector(address: SocketAddr, patience: Duration) -> Delivery {
    let (done_tx, ended) = unbounded();
    thread::spawn(move || {
        let otel = otel_to(address);
        let job = leased("doi:10.1/a");
        for _ in 0..MANY {
            otel.on(&Event::JobSettled(done(&job)));
        }
        done_tx.send(otel.shutdown(patience)).unwrap();
    });
    ended.recv_timeout(AMPLE).expect("a run and its end")
}

#[test]
fn a_collector_that_is_not_there_stops_nothing() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let delivery = run_without_a_collector(address, Duration::from_secs(2));
    assert_eq!(delivery.spans_lost, MANY);
}

#[test]
fn a_collector_that_never_answers_stops_nothing() {
    // Connections are accepted by the system and lie in the backlog for ever.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let delivery = run_without_a_collector(address, Duration::from_millis(200));
    assert_eq!(delivery, Delivery { in_time: false, spans_lost: MANY });
}

#[test]
fn spans_that_find_no_room_are_counted_and_room_comes_back() {
    let flow = Flow::new(2);
    assert_eq!([flow.admit(), flow.admit(), flow.admit()], [true, true, false]);
    assert_eq!(flow.lost(), 3, "nothing has arrived yet");
    flow.taken(2);
    assert!(flow.admit());
    flow.withdraw();
    flow.delivered(2);
    assert_eq!(flow.lost(), 1);
}

#[test]
fn what_the_exporter_will_not_see_takes_no_room() {
    let (address, _posts) = collector();
    let otel = otel_to(address);
    otel.shutdown(AMPLE);
    let job = leased("doi:10.1/a");
    otel.on(&Event::JobSettled(done(&job)));
    assert_eq!(otel.traces.unwrap().flow.lost(), 0);
}

#[test]
fn times_before_1970_and_out_of_range_do_no_harm() {
    let check = |ms, expected| assert_eq!(system_time(WallMs(ms)), expected);
    check(1_500, UNIX_EPOCH + Duration::from_millis(1_500));
    check(-1_500, UNIX_EPOCH - Duration::from_millis(1_500));
    let _ = (system_time(WallMs(i64::MIN)), system_time(WallMs(i64::MAX)));
}
