//! Plots as inline SVG: shapes with classes, whose colours the page's style says, and a title that
//! can be read aloud. No script, and nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::Value;

use super::text::{each, time};
use crate::asking::{duration, percent};

/// Width of every plot, and what lies left of and below its field.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 56.0;
const BELOW: f64 = 20.0;

/// Text as it may stand between tags and in attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A field with axes, in whose units shapes are drawn.
struct Field {
    height: f64,
    from: f64,
    to: f64,
    low: f64,
    high: f64,
    shapes: String,
}

impl Field {
    fn new(height: f64, (from, to): (f64, f64), (low, high): (f64, f64)) -> Self {
        Self {
            height,
            from,
            to: to.max(from + 1.0),
            low,
            high: high.max(low + 1e-9),
            shapes: String::new(),
        }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (at - self.from) / (self.to - self.from) * (WIDTH - LEFT - 4.0)
    }

    fn y(&self, at: f64) -> f64 {
        let share = (at - self.low) / (self.high - self.low);
        4.0 + (1.0 - share) * (self.height - BELOW - 8.0)
    }

    /// A rectangle from corner to corner, with a title where there is something to say.
    fn rect(&mut self, class: &str, (x0, y0): (f64, f64), (x1, y1): (f64, f64), title: &str) {
        let (left, right) = (self.x(x0.max(self.from)), self.x(x1.min(self.to)));
        let (top, bottom) = (self.y(y0.max(y1)), self.y(y0.min(y1)));
        let (width, height) = ((right - left).max(1.0), (bottom - top).max(1.0));
        let _ = write!(
            self.shapes,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\">{}</rect>",
            titled(title)
        );
    }

    fn dot(&mut self, class: &str, at: (f64, f64), title: &str) {
        let _ = write!(
            self.shapes,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\">{}</circle>",
            self.x(at.0),
            self.y(at.1),
            titled(title)
        );
    }

    fn label(&mut self, anchor: &str, (x, y): (f64, f64), text: &str) {
        let _ = write!(
            self.shapes,
            "<text text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            escape(text)
        );
    }

    fn percents(&mut self) {
        for share in [self.low, (self.low + self.high) / 2.0, self.high] {
            let y = self.y(share);
            let _ = write!(
                self.shapes,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            );
            let text = format!("{:.1} %", share / 10_000.0);
            self.label("end", (LEFT - 5.0, y + 4.0), &text);
        }
    }

    fn ends(&mut self, from: &str, to: &str) {
        let y = self.height - 5.0;
        self.label("start", (LEFT, y), from);
        self.label("end", (WIDTH - 4.0, y), to);
    }

    fn finish(self, title: &str) -> String {
        format!(
            "<svg role=\"img\" viewBox=\"0 0 {WIDTH} {}\"><title>{}</title>{}</svg>\n",
            self.height,
            escape(title),
            self.shapes
        )
    }
}

fn titled(title: &str) -> String {
    if title.is_empty() {
        return String::new();
    }
    format!("<title>{}</title>", escape(title))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn pair(ppm: &Value) -> Option<(f64, f64)> {
    let ends = ppm.as_array()?;
    Some((ends.first()?.as_f64()?, ends.get(1)?.as_f64()?))
}

/// Success over time: a band per bin, the share as a dot, incidents and alarms marked.
pub(super) fn history(account: &Value, endpoint: &Value) -> String {
    let (from, to) = (number(&account["since_ms"]), number(&account["now_ms"]));
    let length = number(&account["bin_ms"]);
    let mut field = Field::new(170.0, (from, to), (0.0, 1e6));
    for incident in each(&endpoint["incidents"]) {
        let end = incident["end_ms"].as_f64().unwrap_or(to);
        let start = number(&incident["start_ms"]);
        let said = format!("incident from {}", time(&incident["start_ms"]));
        field.rect("incident", (start, 0.0), (end, 1e6), &said);
    }
    field.percents();
    for bin in each(&endpoint["bins"]) {
        let Some((low, high)) = pair(&bin["interval_ppm"]) else {
            continue;
        };
        let start = number(&bin["start_ms"]);
        let judged = number(&bin["good"]) + number(&bin["bad"]);
        let said = format!(
            "{}: {} of {judged} good",
            time(&bin["start_ms"]),
            bin["good"]
        );
        field.rect("band", (start, low), (start + length, high), &said);
        let share = number(&bin["good"]) / judged * 1e6;
        let middle = (start + length / 2.0).clamp(from, to);
        field.dot("point", (middle, share), &said);
    }
    for alarm in each(&endpoint["alarms"]) {
        let at = number(&alarm["at_ms"]);
        let width = (to - from) / 500.0;
        let said = format!(
            "regime alarm: {}",
            alarm["dimension"].as_str().unwrap_or("?")
        );
        field.rect("alarm", (at, 0.0), (at + width, 1e6), &said);
    }
    field.ends(&time(&account["since_ms"]), &time(&account["now_ms"]));
    field.finish("Share served well over time, with 95 % intervals")
}

/// How long answers took: a bar per bucket, whose edges grow by a factor.
pub(super) fn latency(name: &str, times: &Value) -> String {
    let buckets: Vec<(u64, f64)> = each(&times["buckets"])
        .filter_map(|it| Some((it[0].as_u64()?, it[1].as_f64()?)))
        .collect();
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
        return String::new();
    };
    let step = |us: u64| (us.max(841) as f64 / 1000.0).log2() * 4.0;
    let (from, to) = (step(first.0).round(), step(last.0).round() + 1.0);
    let most = buckets.iter().map(|it| it.1).fold(0.0, f64::max);
    let mut field = Field::new(110.0, (from, to.max(from + 8.0)), (0.0, most));
    field.label("end", (LEFT - 5.0, 14.0), &format!("{most}"));
    for (us, count) in &buckets {
        let at = step(*us).round();
        let said = format!("from {}: {count}", duration(&Value::from(*us)));
        field.rect("bar", (at, 0.0), (at + 0.9, *count), &said);
    }
    let (low, high) = (Value::from(first.0), Value::from(last.0));
    field.ends(&duration(&low), &format!("{} and more", duration(&high)));
    field.finish(&format!("Distribution of {name}"))
}

/// What was foretold, beside what came: the interval as a band, the share as a dot.
pub(super) fn forecasts(window: &Value, target_ppm: &Value) -> String {
    let ended: Vec<&Value> = each(&window["ended"]).collect();
    let (Some(first), Some(last)) = (ended.first(), ended.last()) else {
        return String::new();
    };
    let count = ended.len() as f64;
    let mut field = Field::new(130.0, (0.0, count.max(8.0)), (0.0, 1e6));
    field.percents();
    let target = number(target_ppm);
    field.rect(
        "target",
        (0.0, target),
        (count.max(8.0), target),
        "objective",
    );
    for (at, it) in ended.iter().enumerate() {
        let at = at as f64;
        let said = format!(
            "{}: breach foretold with {}, {} came good{}",
            time(&it["start_ms"]),
            percent(&it["breach_ppm"]),
            percent(&it["share_ppm"]),
            if it["breached"] == true {
                ", breached"
            } else {
                ""
            }
        );
        if let Some((low, high)) = pair(&it["interval_ppm"]) {
            field.rect("band", (at + 0.1, low), (at + 0.9, high), &said);
        }
        let class = if it["breached"] == true {
            "miss"
        } else {
            "point"
        };
        field.dot(class, (at + 0.5, number(&it["share_ppm"])), &said);
    }
    field.ends(&time(&first["start_ms"]), &time(&last["start_ms"]));
    field.finish("Forecast against outcome")
}

/// Shares of a whole as one bar.
pub(super) fn shares(of: &Value) -> String {
    let mut field = Field::new(44.0, (0.0, 1e6), (0.0, 1.0));
    let mut from = 0.0;
    for (at, party) in each(&of["parties"]).enumerate() {
        let to = from + number(&party["share_ppm"]);
        let name = party["name"].as_str().unwrap_or("?");
        let said = format!("{name}: {}", percent(&party["share_ppm"]));
        let class = if at % 2 == 0 { "share" } else { "share other" };
        field.rect(class, (from, 0.0), (to, 1.0), &said);
        from = to;
    }
    field.finish("Shares, the largest first")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_comes_from_outside_is_text() {
        let parties = json!({"parties": [{"name": "<script>\"&", "share_ppm": 1_000_000}]});
        let drawn = shares(&parties);
        assert!(drawn.contains("&lt;script&gt;&quot;&amp;"), "{drawn}");
        assert!(!drawn.contains("<script"));
    }

    #[test]
    fn bands_lie_where_they_belong() {
        let account = json!({"since_ms": 0, "now_ms": 1000, "bin_ms": 500});
        let endpoint = json!({"bins": [
            {"start_ms": 500, "good": 1, "bad": 1, "interval_ppm": [250_000, 750_000]}]});
        let drawn = history(&account, &endpoint);
        // The second half of 660 units of width, and the middle half of 142 of height.
        let band = "<rect class=\"band\" x=\"386.0\" y=\"39.5\" width=\"330.0\" height=\"71.0\">";
        assert!(drawn.contains(band), "{drawn}");
        assert!(drawn.contains("cy=\"75.0\""), "{drawn}");
    }

    #[test]
    fn without_data_there_is_no_plot() {
        assert_eq!(latency("it", &json!({"buckets": []})), "");
        assert_eq!(forecasts(&json!({"ended": []}), &json!(990_000)), "");
    }
}
