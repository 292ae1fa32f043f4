//! From a [`Manifest`] to XML.
//!
//! In: a description. Out: bytes of an MPD in UTF-8. The order of elements is the schema's (Annex
//! B); the order of attributes is fixed so that snapshots and caches see equal bytes.

use std::fmt::Write as _;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use crate::{
    AdaptationSet, Availability, ContentType, FrameRate, Manifest, Period, TimelineSegment,
    UtcTiming,
};

impl Manifest<'_> {
    /// Appends the manifest.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut xml = Xml(Writer::new_with_indent(out, b' ', 1));
        xml.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        let mut root = Element::new("MPD")
            .with("xmlns", "urn:mpeg:dash:schema:mpd:2011")
            .with(
                "profiles",
                "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019",
            )
            .with("type", "dynamic")
            .with("availabilityStartTime", &date_time(self.availability_start_unix_millis))
            .with("publishTime", &date_time(self.publish_unix_millis));
        root = match self.availability {
            Availability::Live { minimum_update_period_ms } => {
                root.with("minimumUpdatePeriod", &duration(minimum_update_period_ms))
            }
            Availability::Ended { media_presentation_duration_ms } => {
                root.with("mediaPresentationDuration", &duration(media_presentation_duration_ms))
            }
        };
        let root = root
            .with("timeShiftBufferDepth", &duration(self.time_shift_buffer_depth_ms))
            .with("suggestedPresentationDelay", &duration(self.suggested_presentation_delay_ms))
            .with("maxSegmentDuration", &duration(self.max_segment_duration_ms))
            .with("minBufferTime", &duration(self.min_buffer_time_ms));
        xml.element(root, |xml| {
            for period in &self.periods {
                write_period(xml, period);
            }
            for timing in &self.utc_timing {
                write_utc_timing(xml, timing);
            }
        });
        xml.end_line();
    }
}

fn write_utc_timing(xml: &mut Xml<'_>, timing: &UtcTiming<'_>) {
    let element = Element::new("UTCTiming");
    xml.empty(match timing {
        UtcTiming::HttpIso(url) => {
            element.with("schemeIdUri", "urn:mpeg:dash:utc:http-iso:2014").with("value", url)
        }
        UtcTiming::Direct(unix_millis) => element
            .with("schemeIdUri", "urn:mpeg:dash:utc:direct:2014")
            .with("value", &date_time(*unix_millis)),
    });
}

fn write_period(xml: &mut Xml<'_>, period: &Period<'_>) {
    let element =
        Element::new("Period").with("id", period.id).with("start", &duration(period.start_ms));
    xml.element(element, |xml| {
        for (index, set) in period.adaptation_sets.iter().enumerate() {
            write_adaptation_set(xml, index, set);
        }
    });
}

fn write_adaptation_set(xml: &mut Xml<'_>, index: usize, set: &AdaptationSet<'_>) {
    let (content, mime_type) = match set.content {
        ContentType::Video { .. } => ("video", "video/mp4"),
        ContentType::Audio { .. } => ("audio", "audio/mp4"),
    };
    let mut element = Element::new("AdaptationSet")
        .with("id", &index.to_string())
        .with("contentType", content)
        .with("mimeType", mime_type)
        .with("segmentAlignment", "true");
    if set.independent_segments {
        element = element.with("startWithSAP", "1");
    }
    xml.element(element, |xml| {
        let representation = Element::new("Representation")
            .with("id", set.representation_id)
            .with("bandwidth", &set.bandwidth.to_string())
            .with("codecs", set.codecs);
        xml.element(with_content(representation, set.content), |xml| {
            if let ContentType::Audio { channels, .. } = set.content {
                xml.empty(
                    Element::new("AudioChannelConfiguration")
                        .with(
                            "schemeIdUri",
                            "urn:mpeg:dash:23003:3:audio_channel_configuration:2011",
                        )
                        .with("value", &channels.to_string()),
                );
            }
            write_segment_template(xml, set);
        });
    });
}

fn with_content(element: Element<'_>, content: ContentType) -> Element<'_> {
    match content {
        ContentType::Video { resolution, frame_rate } => {
            let element = match resolution {
                Some((width, height)) => {
                    element.with("width", &width.to_string()).with("height", &height.to_string())
                }
                None => element,
            };
            match frame_rate {
                Some(FrameRate { numerator, denominator: 1 }) => {
                    element.with("frameRate", &numerator.to_string())
                }
                Some(FrameRate { numerator, denominator }) => {
                    element.with("frameRate", &format!("{numerator}/{denominator}"))
                }
                None => element,
            }
        }
        ContentType::Audio { sampling_rate, .. } => {
            element.with("audioSamplingRate", &sampling_rate.to_string())
        }
    }
}

fn write_segment_template(xml: &mut Xml<'_>, set: &AdaptationSet<'_>) {
    let element = Element::new("SegmentTemplate")
        .with("timescale", &set.timescale.to_string())
        .with("presentationTimeOffset", &set.presentation_time_offset.to_string())
        .with("initialization", set.initialization)
        .with("media", set.media);
    xml.element(element, |xml| {
        xml.element(Element::new("SegmentTimeline"), |xml| write_timeline(xml, &set.segments));
    });
}

/// Writes runs of segments that follow each other with one duration as one `S` (5.3.9.6.2).
fn write_timeline(xml: &mut Xml<'_>, segments: &[TimelineSegment]) {
    let follows =
        |a: &TimelineSegment, b: &TimelineSegment| a.time.checked_add(a.duration) == Some(b.time);
    let runs = segments.chunk_by(|a, b| follows(a, b) && a.duration == b.duration);
    let mut before: Option<&TimelineSegment> = None;
    for run in runs {
        // A run that chunk_by gives is not empty.
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let mut element = Element::new("S");
        if !before.is_some_and(|before| follows(before, first)) {
            element = element.with("t", &first.time.to_string());
        }
        element = element.with("d", &first.duration.to_string());
        if run.len() > 1 {
            element = element.with("r", &(run.len() - 1).to_string());
        }
        xml.empty(element);
        before = Some(last);
    }
}

/// An element's name and attributes, as they will stand in the start tag.
struct Element<'a>(BytesStart<'a>);

impl<'a> Element<'a> {
    fn new(name: &'a str) -> Self {
        Self(BytesStart::new(name))
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push_attribute((name, value));
        self
    }
}

/// A writer into memory, which cannot fail.
struct Xml<'a>(Writer<&'a mut Vec<u8>>);

impl Xml<'_> {
    fn event(&mut self, event: Event<'_>) {
        // Writing to a vector gives no error.
        let _ = self.0.write_event(event);
    }

    fn empty(&mut self, element: Element<'_>) {
        self.event(Event::Empty(element.0));
    }

    fn element(&mut self, element: Element<'_>, content: impl FnOnce(&mut Self)) {
        let end = element.0.to_end().into_owned();
        self.event(Event::Start(element.0));
        content(self);
        self.event(Event::End(end));
    }

    fn end_line(&mut self) {
        self.0.get_mut().push(b'\n');
    }
}

/// A duration in the form of XML Schema, in seconds with up to three decimals.
fn duration(millis: u64) -> String {
    let (seconds, fraction) = (millis / 1000, millis % 1000);
    if fraction == 0 { format!("PT{seconds}S") } else { format!("PT{seconds}.{fraction:03}S") }
}

/// A date in the form of XML Schema, in UTC with milliseconds.
fn date_time(unix_millis: i64) -> String {
    let (year, month, day) = civil_from_days(unix_millis.div_euclid(MILLIS_PER_DAY));
    let millis = unix_millis.rem_euclid(MILLIS_PER_DAY);
    let mut out = String::with_capacity(24);
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        millis / 3_600_000,
        millis / 60_000 % 60,
        millis / 1000 % 60,
        millis % 1000
    );
    out
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01: whole years first, then
/// months. Years are few, since 400 of them are skipped at a time.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let mut year = 1970 + days.div_euclid(DAYS_PER_ERA) * 400;
    let mut rest = days.rem_euclid(DAYS_PER_ERA);
    while rest >= 365 + i64::from(is_leap(year)) {
        rest -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in MONTH_DAYS {
        let length = length + i64::from(month == 2 && is_leap(year));
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const MILLIS_PER_DAY: i64 = 86_400_000;
/// Days of the 400 years after which the Gregorian calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
const MONTH_DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
