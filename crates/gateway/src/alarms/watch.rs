//! What changed since the last look, as events.
//!
//! Pure: what there is comes in, with the time; events come out, each once. Incidents and regime
//! alarms are told by their identity in the history, so that a fold that is made anew after a restart
//! repeats nothing and misses nothing. Burn rates and rests are states: their beginning and their
//! end are events.

use std::collections::{BTreeMap, BTreeSet};

use record::Endpoint;
use reliability::account::AlarmTold;
use reliability::fold::Incident;
use reliability::forecast::fold::ToldObjective;
use serde::{Deserialize, Serialize};

use super::event::{About, Burn, Event, What};

/// How long an endpoint has to be asked again before that is told, ms: one that is tried again every
/// few seconds while it fails is not back.
pub(crate) const BACK_AFTER_MS: u64 = 60_000;
/// How long a burn rate has to stay below its threshold before that is told, ms.
pub(crate) const BURN_OVER_AFTER_MS: u64 = 300_000;
/// How long the state of an endpoint that is gone is remembered, ms.
const GONE_AFTER_MS: u64 = 24 * 3_600_000;

/// What there is at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    pub(crate) troubles: Vec<(Endpoint, Vec<Incident>, Vec<AlarmTold>)>,
    pub(crate) objectives: Vec<ToldObjective>,
    pub(crate) rests: Vec<Rest>,
}

/// An endpoint, and whether it rests.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) url: String,
    /// What tells two accounts at one URL apart.
    pub(crate) name: Option<String>,
    pub(crate) resting: bool,
    pub(crate) breaker: &'static str,
}

/// What was seen so far. It is kept in a file, so that a restart does not tell anything twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Ids of events about incidents and alarms that the history still names.
    told: BTreeSet<String>,
    /// Whether there was a first look: what lies before it is no news.
    began: bool,
    burning: BTreeMap<String, State>,
    resting: BTreeMap<String, State>,
}

/// A state that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    since_ms: u64,
    /// When it was seen last.
    seen_ms: u64,
}

impl Known {
    /// The events since the last look.
    pub(crate) fn look(&mut self, gateway: &str, sight: &Sight, now_ms: u64) -> Vec<Event> {
        let mut events = self.history(gateway, &sight.troubles, now_ms);
        self.burns(gateway, &sight.objectives, now_ms, &mut events);
        self.rests(gateway, &sight.rests, now_ms, &mut events);
        self.began = true;
        events
    }

    /// Whether a file that says `before` has to be written anew: when a state was seen last may
    /// be older there.
    pub(crate) fn says_more_than(&self, before: &Self) -> bool {
        self.told != before.told
            || self.began != before.began
            || !self.burning.keys().eq(before.burning.keys())
            || !self.resting.keys().eq(before.resting.keys())
    }

    fn history(
        &mut self,
        gateway: &str,
        troubles: &[(Endpoint, Vec<Incident>, Vec<AlarmTold>)],
        now_ms: u64,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let mut present = BTreeSet::new();
        for (endpoint, incidents, alarms) in troubles {
            let (provider, model) = (endpoint.provider.to_string(), endpoint.model.to_string());
            let about = About {
                gateway,
                provider: &provider,
                model: &model,
            };
            let opened = incidents.iter().map(|it| {
                let what = What::IncidentOpened {
                    start_ms: it.start_ms,
                    failed: it.failed,
                };
                (what, it.end_ms.is_none())
            });
            let closed = incidents.iter().filter_map(|it| {
                let what = What::IncidentClosed {
                    start_ms: it.start_ms,
                    end_ms: it.end_ms?,
                    failed: it.failed,
                };
                Some((what, false))
            });
            let raised = alarms.iter().map(|it| (What::RegimeAlarm(it.alarm), false));
            // One that is still open has no verdict.
            let settled = alarms.iter().filter_map(|it| {
                let verdict = it.verdict.as_ref().filter(|it| it.ended_ms.is_some())?;
                Some((What::RegimeVerdict(it.alarm, verdict.clone()), false))
            });
            for (what, lasts) in opened.chain(closed).chain(raised).chain(settled) {
                let event = Event::new(about, &what, now_ms);
                // What lasts is news to whoever has just begun to listen.
                if (self.began || lasts) && !self.told.contains(&event.id) {
                    events.push(event.clone());
                }
                present.insert(event.id);
            }
        }
        // What the history no longer names, it will not name again.
        self.told = present;
        events
    }

    fn burns(
        &mut self,
        gateway: &str,
        objectives: &[ToldObjective],
        now_ms: u64,
        events: &mut Vec<Event>,
    ) {
        let mut present = BTreeSet::new();
        for it in objectives {
            for alarm in &it.standing.alarms {
                let key = format!(
                    "{} {} {} {}",
                    it.provider, it.model, it.objective, alarm.long_s
                );
                present.insert(key.clone());
                let change = step(
                    &mut self.burning,
                    key,
                    alarm.raised,
                    now_ms,
                    BURN_OVER_AFTER_MS,
                );
                let Some((began, since_ms)) = change else {
                    continue;
                };
                let burn = Burn {
                    objective: it.objective.clone(),
                    severity: alarm.severity,
                    long_s: alarm.long_s,
                    since_ms,
                    rates: [alarm.long_thousandths, alarm.short_thousandths],
                    threshold_thousandths: alarm.threshold_thousandths,
                    budget_left_thousandths: it.standing.budget_left_thousandths,
                };
                let what = if began {
                    What::BurnStarted(burn)
                } else {
                    What::BurnEnded(burn)
                };
                let about = About {
                    gateway,
                    provider: &it.provider,
                    model: &it.model,
                };
                events.push(Event::new(about, &what, now_ms));
            }
        }
        forget_gone(&mut self.burning, &present, now_ms);
    }

    fn rests(&mut self, gateway: &str, rests: &[Rest], now_ms: u64, events: &mut Vec<Event>) {
        let mut present = BTreeSet::new();
        for it in rests {
            let mut key = format!("{} {} {}", it.provider, it.model, it.url);
            if let Some(name) = &it.name {
                key = format!("{key} {name}");
            }
            present.insert(key.clone());
            let change = step(&mut self.resting, key, it.resting, now_ms, BACK_AFTER_MS);
            let Some((began, since_ms)) = change else {
                continue;
            };
            let (url, name) = (it.url.clone(), it.name.clone());
            let what = if began {
                What::Rests {
                    url,
                    name,
                    breaker: it.breaker,
                    since_ms,
                }
            } else {
                What::Back {
                    url,
                    name,
                    since_ms,
                }
            };
            let about = About {
                gateway,
                provider: &it.provider,
                model: &it.model,
            };
            events.push(Event::new(about, &what, now_ms));
        }
        forget_gone(&mut self.resting, &present, now_ms);
    }
}

/// Forgets states of what is no longer there, a day after they were seen last: what comes back sooner
/// goes on.
fn forget_gone(states: &mut BTreeMap<String, State>, present: &BTreeSet<String>, now_ms: u64) {
    states.retain(|key, state| {
        present.contains(key) || now_ms.saturating_sub(state.seen_ms) < GONE_AFTER_MS
    });
}

/// Follows one state: `(true, since)` when it begins, `(false, since)` when it has been over for
/// `over_after_ms`.
fn step(
    states: &mut BTreeMap<String, State>,
    key: String,
    on: bool,
    now_ms: u64,
    over_after_ms: u64,
) -> Option<(bool, u64)> {
    match (states.get_mut(&key), on) {
        (None, false) => None,
        (None, true) => {
            let begun = State {
                since_ms: now_ms,
                seen_ms: now_ms,
            };
            states.insert(key, begun);
            Some((true, now_ms))
        }
        (Some(state), true) => {
            state.seen_ms = now_ms;
            None
        }
        (Some(state), false) if now_ms.saturating_sub(state.seen_ms) < over_after_ms => None,
        (Some(_), false) => states.remove(&key).map(|state| (false, state.since_ms)),
    }
}

#[cfg(test)]
mod tests {
    use reliability::evidence::Verdict;
    use reliability::fold::VerdictReport;
    use reliability::timeline::AlarmAt;

    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            provider: "https://api.example.com".parse().expect("an origin"),
            model: "m".parse().expect("a model"),
        }
    }

    fn incident(start_ms: u64, end_ms: Option<u64>) -> Incident {
        Incident {
            start_ms,
            end_ms,
            failed: 3,
        }
    }

    fn sight(incidents: Vec<Incident>, resting: bool) -> Sight {
        Sight {
            troubles: vec![(endpoint(), incidents, Vec::new())],
            objectives: Vec::new(),
            rests: vec![Rest {
                provider: "https://api.example.com".to_owned(),
                model: "m".to_owned(),
                url: "https://api.example.com/v1".to_owned(),
                name: None,
                resting,
                breaker: "open",
            }],
        }
    }

    fn kinds(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.kind.as_str()).collect()
    }

    #[test]
    fn what_lies_before_the_first_look_is_no_news_unless_it_lasts() {
        let old = vec![incident(1, Some(2)), incident(5, None)];
        let mut known = Known::default();
        let first = known.look("g", &sight(old, false), 10);
        assert_eq!(kinds(&first), ["incident.opened"]);
        assert_eq!(first[0].data["start_ms"], 5);
        let closed = vec![incident(1, Some(2)), incident(5, Some(20))];
        let then = known.look("g", &sight(closed, false), 30);
        assert_eq!(kinds(&then), ["incident.closed"]);
        assert!(then[0].summary.contains("m at https://api.example.com"));
    }

    #[test]
    fn a_restart_repeats_nothing_and_misses_nothing() {
        let mut known = Known::default();
        known.look("g", &sight(vec![incident(1, Some(2))], false), 10);
        let kept = serde_json::to_string(&known).expect("JSON");
        let mut again: Known = serde_json::from_str(&kept).expect("what was written");
        let same = sight(vec![incident(1, Some(2))], false);
        assert!(again.look("g", &same, 20).is_empty());
        // It began and ended while nobody looked.
        let both = sight(vec![incident(1, Some(2)), incident(12, Some(15))], false);
        let events = again.look("g", &both, 30);
        assert_eq!(kinds(&events), ["incident.opened", "incident.closed"]);
        assert_ne!(events[0].id, events[1].id);
        let mut other = again.clone();
        other.told.clear();
        assert_eq!(other.look("g", &both, 99)[0].id, {
            let first = Known {
                began: true,
                ..Known::default()
            };
            first.clone().look("g", &both, 77)[0].id.clone()
        });
    }

    #[test]
    fn an_alarm_is_told_and_once_more_when_it_is_settled() {
        let alarm = |verdict, ended_ms| {
            let mut sight = sight(Vec::new(), false);
            sight.troubles[0].2 = vec![AlarmTold {
                alarm: AlarmAt {
                    at_ms: 5,
                    dimension: "schema",
                    number: 1,
                },
                verdict: Some(VerdictReport {
                    alarm: 1,
                    at_ms: 5,
                    verdict,
                    ended_ms,
                    units: 7,
                    tolerated_ppm: 20_000,
                    suspected_ppm: 100_000,
                    changed_e: "1.2e4".to_owned(),
                    transient_e: "1.0e0".to_owned(),
                    in_words: "confirmed by 7 fresh units".to_owned(),
                }),
            }];
            sight
        };
        let mut known = Known::default();
        known.look("g", &sight(Vec::new(), false), 1);
        let raised = known.look("g", &alarm(Verdict::Undecided, None), 10);
        assert_eq!(kinds(&raised), ["regime.alarm"]);
        assert!(
            known
                .look("g", &alarm(Verdict::Undecided, None), 20)
                .is_empty()
        );
        let settled = known.look("g", &alarm(Verdict::Changed, Some(25)), 30);
        assert_eq!(kinds(&settled), ["regime.verdict"]);
        let data = &settled[0].data;
        assert_eq!(
            (&data["verdict"], &data["units"]),
            (&"changed".into(), &7.into())
        );
        assert!(
            settled[0]
                .summary
                .ends_with("schema: confirmed by 7 fresh units")
        );
        assert!(
            known
                .look("g", &alarm(Verdict::Changed, Some(25)), 40)
                .is_empty()
        );
    }

    #[test]
    fn one_that_is_tried_again_and_fails_rests_once() {
        let mut known = Known::default();
        let mut told = Vec::new();
        for second in 0..600u64 {
            // Awake for ten seconds of every forty, until it is well for good.
            let resting = second < 300 && second % 40 < 30;
            told.extend(known.look("g", &sight(Vec::new(), resting), second * 1000));
        }
        assert_eq!(kinds(&told), ["endpoint.rests", "endpoint.back"]);
        assert_eq!(told[1].data["since_ms"], 0);
        assert!(told[1].data.get("name").is_none());

        // One that is gone while it rests is forgotten after a day, and two accounts are two.
        let mut both = sight(Vec::new(), true);
        let mut second = both.rests[0].clone();
        second.name = Some("second".to_owned());
        both.rests.push(second);
        let told = known.look("g", &both, 1_000_000);
        assert_eq!(kinds(&told), ["endpoint.rests"; 2]);
        assert_ne!(told[0].id, told[1].id);
        assert_eq!(told[1].data["name"], "second");
        known.look("g", &Sight::default(), 1_000_000 + GONE_AFTER_MS - 1);
        assert_eq!(known.resting.len(), 2);
        known.look("g", &Sight::default(), 1_000_000 + GONE_AFTER_MS);
        assert!(known.resting.is_empty());
    }
}
