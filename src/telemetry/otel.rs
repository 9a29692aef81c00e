//! Metrics and traces of a run, sent over OTLP/HTTP by the OpenTelemetry SDK's own threads.
//!
//! | what | kind | attributes |
//! |---|---|---|
//! | `orch.queue.depth` | gauge, jobs | `state` |
//! | `orch.jobs.completed` | counter, jobs that ended | `outcome`, `kind`, `reason` |
//! | `orch.job.duration` | histogram, seconds, of every attempt | `outcome`, `kind` |
//! | `orch.breaker.transitions` | counter, of the breakers of all hosts and resolvers together: names of hosts have no end | `kind` (`host`, `resolver`), `transition` (`opened`, `half_opened`, `closed`) |
//! | `orch.job` | span, of every attempt | `artifact_id`, `job_id`, `worker_id`, `attempt`, `kind`, `outcome`, `reason` |
//!
//! Must never slow a run: a span is made only when there is room for it in the queue to the exporter,
//! otherwise it is dropped and counted. A collector that is gone or stalls costs telemetry and nothing
//! else; [`Otel::shutdown`] waits for it no longer than it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry::trace::{Span as _, SpanBuilder, Status, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig,
    WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData,
};
use parking_lot::Mutex;
use tracing::warn;

use super::ending::Ending;
use super::otel_settings::{OtelSettings, Signal};
use super::otlp_http::{OtlpHttp, Trouble};
use super::text::{kind_of, name_of};
use crate::job::{LimitKey, Reason, State, WallMs};
use crate::queue::store::Counts;
use crate::run::event::{Event, Listener, Settled};
use crate::share::Transition;

/// The upper bounds of the duration histogram's buckets, in seconds: the SDK's own are for milliseconds.
const BUCKETS_SECONDS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0,
];

/// Why nothing is exported.
#[derive(Debug, thiserror::Error)]
pub enum OtelError {
    /// The SDK refused its settings.
    #[error("the OTLP exporter for {signal} cannot be made")]
    Exporter {
        /// `traces` or `metrics`.
        signal: &'static str,
        /// What it said.
        source: ExporterBuildError,
    },
}

/// What became of the telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Everything was sent, or given up, within the time allowed.
    pub in_time: bool,
    /// Spans made or due that no collector has acknowledged.
    pub spans_lost: u64,
}

/// A listener that exports what it hears. To be shut down at the end of the run.
pub struct Otel {
    traces: Option<Traces>,
    metrics: Option<Metrics>,
}

impl Otel {
    /// Starts the exporters, each on a thread of its own. Nothing is sent before the first event.
    ///
    /// # Errors
    /// [`OtelError`] when the SDK refuses the settings.
    pub fn start(settings: &OtelSettings) -> Result<Otel, OtelError> {
        for name in &settings.ignored {
            warn!(target: "orch::otel", "{name} is set and has no effect here");
        }
        let trouble = Arc::new(Trouble::default());
        let resource = resource(settings);
        let scope =
            InstrumentationScope::builder("orch").with_version(env!("CARGO_PKG_VERSION")).build();
        let traces = |signal| Traces::start(settings, signal, &resource, &scope, trouble.clone());
        let metrics = |signal| Metrics::start(settings, signal, &resource, &scope, trouble.clone());
        Ok(Otel {
            traces: settings.traces.as_ref().map(traces).transpose()?,
            metrics: settings.metrics.as_ref().map(metrics).transpose()?,
        })
    }

    /// Sends what is waiting and ends the exporters, but waits no longer than `within`. Says in the log if spans were lost.
    pub fn shutdown(&self, within: Duration) -> Delivery {
        let (done, finished) = crossbeam_channel::bounded(2);
        let mut pending = 0;
        if let Some(traces) = &self.traces {
            let provider = traces.provider.clone();
            pending += 1;
            aside(&done, move || drop(provider.shutdown_with_timeout(within)));
        }
        if let Some(metrics) = &self.metrics {
            let provider = metrics.provider.clone();
            pending += 1;
            // The SDK takes no notice of the timeout here and waits up to 5 s: hence the threads.
            aside(&done, move || drop(provider.shutdown_with_timeout(within)));
        }
        let deadline = crossbeam_channel::after(within);
        let in_time = (0..pending).all(|_| {
            crossbeam_channel::select! {
                recv(finished) -> answer => answer.is_ok(),
                recv(deadline) -> _ => false,
            }
        });
        let spans_lost = self.traces.as_ref().map_or(0, |traces| traces.flow.lost());
        if spans_lost > 0 {
            warn!(target: "orch::otel", spans_lost, "spans of this run did not reach the collector");
        }
        Delivery { in_time, spans_lost }
    }
}

impl Listener for Otel {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::JobSettled(settled) => {
                let ending = Ending::of(settled);
                if let Some(metrics) = &self.metrics {
                    metrics.settled(settled, ending);
                }
                if let Some(traces) = &self.traces {
                    traces.settled(settled, ending);
                }
            }
            Event::Breaker { key, transition, .. } => {
                if let Some(metrics) = &self.metrics {
                    metrics.breaker(key, *transition);
                }
            }
            Event::Progress(progress) => {
                if let Some(metrics) = &self.metrics {
                    *metrics.depth.lock() = Some(progress.queue);
                }
            }
            _ => {}
        }
    }
}

/// Runs `work` on a thread of its own and tells `done`; where there is no thread to be had, `done` is dropped untold.
fn aside(done: &crossbeam_channel::Sender<()>, work: impl FnOnce() + Send + 'static) {
    let done = done.clone();
    let told = move || {
        work();
        // The one who asked may have stopped waiting.
        let _ = done.send(());
    };
    if let Err(error) = thread::Builder::new().name("orch-otel-end".into()).spawn(told) {
        warn!(target: "orch::otel", "telemetry that was waiting is lost: {error}");
    }
}

/// Who sends. The instance's id keeps two runs on one queue from being taken for one.
fn resource(settings: &OtelSettings) -> Resource {
    let instance = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
    Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", instance))
        .with_attributes(
            settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
        )
        .with_service_name(settings.service_name.clone())
        .build()
}

/// One retry, soon: what the collector missed by more than that is not worth a queue.
fn retry() -> RetryPolicy {
    RetryPolicy::default().with_max_retries(1).with_initial_delay(Duration::from_millis(200))
}

struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    flow: Arc<Flow>,
}

impl Traces {
    fn start(
        settings: &OtelSettings,
        signal: &Signal,
        resource: &Resource,
        scope: &InstrumentationScope,
        trouble: Arc<Trouble>,
    ) -> Result<Traces, OtelError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OtlpHttp::new(signal, trouble))
            .with_endpoint(signal.endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_headers(signal.headers.iter().cloned().collect())
            .with_timeout(signal.timeout)
            .with_retry_policy(retry())
            .build()
            .map_err(|source| OtelError::Exporter { signal: "traces", source })?;
        let flow = Arc::new(Flow::new(settings.max_spans_waiting));
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(settings.max_spans_waiting)
            .with_max_export_batch_size(settings.spans_per_request)
            .with_scheduled_delay(settings.span_delay)
            .build();
        let processor = BatchSpanProcessor::builder(Counted { exporter, flow: flow.clone() })
            .with_batch_config(batches)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource.clone())
            .build();
        let tracer = provider.tracer_with_scope(scope.clone());
        Ok(Traces { provider, tracer, flow })
    }

    /// One span, from start to end, made when the attempt is over.
    fn settled(&self, settled: &Settled<'_>, ending: Ending) {
        if settled.worker.is_none() || !self.flow.admit() {
            return;
        }
        let started = system_time(settled.started_at);
        let builder = SpanBuilder::from_name("orch.job")
            .with_start_time(started)
            .with_attributes(span_attributes(settled, ending));
        let mut span = self.tracer.build_with_context(builder, &Context::new());
        if !span.span_context().is_sampled() {
            // Sampled away (OTEL_TRACES_SAMPLER), or shut down: the exporter will not see it.
            self.flow.withdraw();
            return;
        }
        if ending == Ending::Error || ending == Ending::Retry {
            span.set_status(Status::error(settled.message.to_owned()));
        }
        span.end_with_timestamp(started.checked_add(settled.elapsed).unwrap_or(started));
    }
}

fn span_attributes(settled: &Settled<'_>, ending: Ending) -> Vec<KeyValue> {
    let job = settled.job;
    let mut attributes = vec![
        KeyValue::new("artifact_id", job.artifact_id.as_str().to_owned()),
        KeyValue::new("job_id", job.token.job.0),
        KeyValue::new("attempt", i64::from(job.attempt)),
        KeyValue::new("kind", job.lane.kind.as_str().to_owned()),
        KeyValue::new("outcome", ending.name()),
    ];
    let worker = settled.worker.and_then(|worker| i64::try_from(worker).ok());
    attributes.extend(worker.map(|worker| KeyValue::new("worker_id", worker)));
    let reason = settled.reason.map(Reason::name);
    attributes.extend(reason.map(|reason| KeyValue::new("reason", reason)));
    attributes
}

/// The moment as the SDK wants it; its start of time where ours cannot be told.
fn system_time(time: WallMs) -> SystemTime {
    let distance = Duration::from_millis(time.0.unsigned_abs());
    let moment = if time.0 >= 0 {
        UNIX_EPOCH.checked_add(distance)
    } else {
        UNIX_EPOCH.checked_sub(distance)
    };
    moment.unwrap_or(UNIX_EPOCH)
}

/// How many spans are on their way, and how many did not get there.
#[derive(Debug)]
struct Flow {
    /// No more than so many wait: what the SDK's own queue holds, so that it never drops one silently.
    max_waiting: usize,
    waiting: AtomicUsize,
    dropped: AtomicU64,
    /// Handed to the exporter and not acknowledged by the collector.
    undelivered: AtomicU64,
}

impl Flow {
    fn new(max_waiting: usize) -> Flow {
        let (dropped, undelivered) = (AtomicU64::new(0), AtomicU64::new(0));
        Flow { max_waiting, waiting: AtomicUsize::new(0), dropped, undelivered }
    }

    /// Whether there is room for one more; if not, it is counted as dropped.
    fn admit(&self) -> bool {
        let room = |waiting| (waiting < self.max_waiting).then_some(waiting + 1);
        let admitted =
            self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok();
        if !admitted && self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!(
                target: "orch::otel",
                "spans are dropped: they are made faster than the collector takes them \
                 (OTEL_TRACES_SAMPLER thins them, OTEL_BSP_MAX_QUEUE_SIZE queues more); said once"
            );
        }
        admitted
    }

    /// An admitted span will not come.
    fn withdraw(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// So many were taken from the queue, to be sent.
    fn taken(&self, spans: usize) {
        self.undelivered.fetch_add(count(spans), Ordering::Relaxed);
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
    }

    /// So many of the taken have reached the collector.
    fn delivered(&self, spans: usize) {
        self.undelivered.fetch_sub(count(spans), Ordering::Relaxed);
    }

    fn lost(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
            + self.undelivered.load(Ordering::Relaxed)
            + count(self.waiting.load(Ordering::Relaxed))
    }
}

fn count(spans: usize) -> u64 {
    u64::try_from(spans).unwrap_or(u64::MAX)
}

/// An exporter that tells the [`Flow`] what it takes and what it delivers.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    flow: Arc<Flow>,
}

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter
    for Counted<E>
{
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.flow.taken(spans);
        let result = self.exporter.export(batch).await;
        if result.is_ok() {
            self.flow.delivered(spans);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

struct Metrics {
    provider: SdkMeterProvider,
    depth: Arc<Mutex<Option<Counts>>>,
    completed: Counter<u64>,
    duration: Histogram<f64>,
    breakers: Counter<u64>,
}

impl Metrics {
    fn start(
        settings: &OtelSettings,
        signal: &Signal,
        resource: &Resource,
        scope: &InstrumentationScope,
        trouble: Arc<Trouble>,
    ) -> Result<Metrics, OtelError> {
        let exporter = MetricExporter::builder()
            .with_http()
            .with_http_client(OtlpHttp::new(signal, trouble))
            .with_endpoint(signal.endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_headers(signal.headers.iter().cloned().collect())
            .with_timeout(signal.timeout)
            .with_retry_policy(retry())
            .build()
            .map_err(|source| OtelError::Exporter { signal: "metrics", source })?;
        let reader =
            PeriodicReader::builder(exporter).with_interval(settings.metric_interval).build();
        let provider =
            SdkMeterProvider::builder().with_reader(reader).with_resource(resource.clone()).build();
        let meter = provider.meter_with_scope(scope.clone());
        let depth = Arc::new(Mutex::new(None));
        queue_depth(&meter, depth.clone());
        let completed = meter
            .u64_counter("orch.jobs.completed")
            .with_unit("{job}")
            .with_description("Jobs that ended done, skipped or in error.")
            .build();
        let duration = meter
            .f64_histogram("orch.job.duration")
            .with_unit("s")
            .with_description("How long attempts ran.")
            .with_boundaries(BUCKETS_SECONDS.to_vec())
            .build();
        let breakers = meter
            .u64_counter("orch.breaker.transitions")
            .with_unit("{transition}")
            .with_description("Breakers of hosts and resolvers that opened, half-opened or closed.")
            .build();
        Ok(Metrics { provider, depth, completed, duration, breakers })
    }

    fn breaker(&self, key: &LimitKey, transition: Transition) {
        let kind = KeyValue::new("kind", kind_of(key));
        self.breakers.add(1, &[kind, KeyValue::new("transition", name_of(transition))]);
    }

    fn settled(&self, settled: &Settled<'_>, ending: Ending) {
        let outcome = KeyValue::new("outcome", ending.name());
        let kind = KeyValue::new("kind", settled.job.lane.kind.as_str().to_owned());
        let attributes =
            [outcome, kind, KeyValue::new("reason", settled.reason.map_or("", Reason::name))];
        if ending.is_final() {
            self.completed.add(1, &attributes);
        }
        if settled.worker.is_some() {
            self.duration.record(settled.elapsed.as_secs_f64(), &attributes[..2]);
        }
    }
}

/// Jobs by state, as the last progress had them; nothing before the first.
fn queue_depth(meter: &Meter, depth: Arc<Mutex<Option<Counts>>>) {
    let states = State::ALL.map(|state| (state, [KeyValue::new("state", state.name())]));
    meter
        .u64_observable_gauge("orch.queue.depth")
        .with_unit("{job}")
        .with_description("Jobs in the queue.")
        .with_callback(move |observer| {
            let counts = *depth.lock();
            for (state, attributes) in &states {
                if let Some(counts) = counts {
                    observer.observe(counts.of(*state), attributes);
                }
            }
        })
        .build();
}

#[cfg(test)]
mod tests;
