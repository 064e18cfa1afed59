//! A log with a provider that has joined, a caller of it and of an outside API, and the histories
//! that are made from it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "every test uses another part"
)]

use record::bucket::{duration_us, start_ms, tokens};
use record::control::{Action, LogOrigin, Revoke, RevokeReason};
use record::leaf::Leaf;
use record::observation::{
    self, Conditions, LoadClass, Observation, PromptClass, ReceiptCheck, Verdict, WeekTime,
};
use record::receipt::{self, Caller, Executed, Finish, Receipt, ResponseFormat};
use record::summary::Summary;
use record::void::{OutcomeCounts, Range, Reason, Void, VoidStream};
use record::{
    CallId, Endpoint, Exchange, HttpStatus, Nonce, NumberedKind, Outcome, Place, Predicate,
    Provider, Record, RecordId, Seq, Signer, Statement, Usage, Word, sha256,
};
use ring::rand::SystemRandom;
use tlog::checkpoint::SignedCheckpoint;
use tlog::history::{
    self, ErasedItem, Header, HistoryWriter, Item, Plan, Planner, RecordItem, Selection,
};
use tlog::policy::{PolicyFile, TrustPolicy};
use tlog::proof::TreeView;
use tlog::summary::{Maker, Stretch};

use crate::common::{AT_MS, Identity, TinyLog};

/// What happened, in a log.
pub struct Story {
    pub log: TinyLog,
    pub provider: Identity,
    pub caller: Identity,
    /// One per entry.
    pub records: Vec<Record>,
    /// Entries whose bodies are gone.
    pub erased: Vec<u64>,
}

pub fn outside(model: &str) -> Endpoint {
    Endpoint {
        provider: "https://api.example.com".parse().unwrap(),
        model: model.parse().unwrap(),
    }
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn at(endpoint: &Endpoint, number: u64) -> Place {
    Place {
        endpoint: endpoint.clone(),
        seq: seq(number),
    }
}

fn about(who: &Identity, number: u64, predicate: impl Into<Predicate>) -> Record {
    let exchange = Exchange {
        request: sha256(&number.to_be_bytes()),
        response: Some(sha256(b"response")),
    };
    let signer = Signer {
        id: Some(who.id),
        key: *who.instance.public(),
    };
    let statement = Statement::about(signer, exchange, predicate).unwrap();
    let signed = who
        .instance
        .sign_statement(&statement, &SystemRandom::new());
    signed.unwrap().open().unwrap()
}

pub fn observe(
    who: &Identity,
    endpoint: &Endpoint,
    number: u64,
    receipt: Option<RecordId>,
) -> Record {
    let outside = endpoint.provider.signer().is_none();
    let receipt_check = match receipt {
        Some(_) => ReceiptCheck::Verified,
        None if outside => ReceiptCheck::NotJoined,
        None => ReceiptCheck::Missing,
    };
    let seen = Observation {
        stream: at(endpoint, number),
        call: CallId::from_bytes([7; 16]),
        attempt: 1,
        nonce: Nonce::from_bytes([8; 16]),
        receipt,
        receipt_check,
        outcome: Outcome::Ok,
        fault: None,
        http_status: Some(HttpStatus::new(200).unwrap()),
        streamed: false,
        timing: observation::Timing {
            start_ms: start_ms(AT_MS + number * 10_000),
            ttft_us: None,
            inter_token: None,
            total_us: duration_us(20_000),
        },
        usage: None,
        schema: Verdict::NotChecked,
        tools: Verdict::NotChecked,
        conditions: Conditions {
            prompt: PromptClass::Short,
            load: LoadClass::Solo,
            region: Word::new("unknown").unwrap(),
            week: WeekTime::of(AT_MS),
            purpose: None,
        },
        client: sha256(b"client"),
        tls_key: None,
        commitments: observation::Commitments {
            exact: sha256(b"exact"),
        },
    };
    about(who, number, seen)
}

fn receive(who: &Identity, endpoint: &Endpoint, number: u64, caller: &Identity) -> Record {
    let receipt = Receipt {
        stream: at(endpoint, number),
        manifest: RecordId::from_bytes([7; 32]),
        caller: Some(Caller {
            nonce: Nonce::from_bytes([8; 16]),
            observer: caller.instance.key_id(),
            seq: seq(number),
        }),
        executed: Executed {
            temperature_ppm: None,
            top_p_ppm: None,
            seed: None,
            max_tokens: None,
            n: 1,
            stop: 0,
            logprobs: None,
            tools: 0,
            response_format: ResponseFormat::Text,
        },
        commitments: receipt::Commitments {
            tokens: None,
            exact: sha256(b"exact"),
        },
        usage: Some(Usage {
            prompt_tokens: tokens(3),
            completion_tokens: tokens(4),
        }),
        finish: Some(Finish::Stop),
        outcome: Outcome::Ok,
        http_status: HttpStatus::new(200).unwrap(),
        streamed: false,
        timing: receipt::Timing {
            start_ms: start_ms(AT_MS + number * 10_000),
            queue_us: duration_us(0),
            ttft_us: None,
            total_us: duration_us(5000),
        },
        price_micro_credits: None,
    };
    about(who, number, receipt)
}

fn void(who: &Identity, endpoint: &Endpoint, first: u64, last: u64) -> Record {
    let void = Void {
        stream: VoidStream {
            endpoint: endpoint.clone(),
            kind: NumberedKind::Observation,
        },
        at_ms: start_ms(AT_MS),
        ranges: vec![Range {
            first: seq(first),
            last: seq(last),
        }],
        reason: Reason::Crash,
        outcomes: OutcomeCounts::unknown(),
    };
    crate::common::sign(&who.instance, Some(who.id), void)
}

impl Story {
    /// Two signers, `calls` of the provider's model with receipts, and as many of two outside
    /// models; number 3 of the first outside model is voided, number 5 missing, and of its
    /// number 7 the body was erased.
    pub fn new(calls: u64) -> Self {
        let mut log = TinyLog::new("log.example", 1);
        let (mut provider, first) = Identity::new(&log);
        let mut records = vec![first, provider.delegate()];
        let (mut caller, first) = Identity::new(&log);
        records.extend([first, caller.delegate()]);
        let joined = Endpoint {
            provider: Provider::Joined(provider.id),
            model: "demo".parse().unwrap(),
        };
        let mut erased = Vec::new();
        for number in 1..=calls {
            let receipt = receive(&provider, &joined, number, &caller);
            let id = receipt.id;
            records.push(receipt);
            records.push(observe(&caller, &joined, number, Some(id)));
            match number {
                3 => records.push(void(&caller, &outside("a"), 3, 3)),
                5 => {}
                _ => records.push(observe(&caller, &outside("a"), number, None)),
            }
            if number == 7 {
                erased.push(u64::try_from(records.len()).unwrap() - 1);
            }
            records.push(observe(&caller, &outside("b"), number, None));
        }
        for record in &records {
            log.append(record);
        }
        Self {
            log,
            provider,
            caller,
            records,
            erased,
        }
    }

    pub fn append(&mut self, record: Record) -> u64 {
        let index = self.log.append(&record);
        self.records.push(record);
        index
    }

    /// The caller takes its instance key back.
    pub fn revoke(&mut self) {
        let revoke = Revoke {
            key_id: self.caller.instance.key_id(),
            reason: RevokeReason::Retired,
        };
        let record = self.caller.control(Action::Revoke(revoke));
        self.append(record);
    }

    pub fn joined(&self) -> Endpoint {
        Endpoint {
            provider: Provider::Joined(self.provider.id),
            model: "demo".parse().unwrap(),
        }
    }

    pub fn size(&self) -> u64 {
        u64::try_from(self.records.len()).unwrap()
    }

    /// The summaries that the caller would sign now.
    pub fn stretches(&self) -> Vec<Stretch> {
        let origin = LogOrigin::new("log.example").unwrap();
        let all = Selection::default();
        let mut maker = Maker::new(origin, self.size(), self.caller.id, all);
        for (index, record) in (0..).zip(&self.records) {
            if !self.is_erased(index) {
                maker.record(record, index).unwrap();
            }
        }
        maker.finish(start_ms(AT_MS)).unwrap()
    }

    /// Signs them and puts them into the log, changed on the way; how many.
    pub fn summarise(&mut self, change: impl Fn(&mut Summary)) -> u64 {
        let mut logged = 0;
        for stretch in self.stretches() {
            let mut previous = stretch.after;
            for mut summary in stretch.summaries {
                summary.previous = previous;
                change(&mut summary);
                let record =
                    crate::common::sign(&self.caller.instance, Some(self.caller.id), summary);
                previous = Some(record.id);
                self.append(record);
                logged += 1;
            }
        }
        logged
    }

    fn is_erased(&self, index: u64) -> bool {
        self.erased.contains(&index)
    }

    pub fn plan(&self, selection: &Selection) -> Plan {
        let mut planner = Planner::new(selection.clone());
        for (index, record) in (0..).zip(&self.records) {
            if self.is_erased(index) {
                planner.erased(index, record.key().key_id());
            } else {
                planner.record(record, index);
            }
        }
        planner.finish()
    }

    /// The frames of a history, entries and then the tail, as an honest exporter makes them.
    pub fn items(&self, entries: &[u64]) -> Vec<Item> {
        let size = u64::try_from(self.records.len()).unwrap();
        let view = TreeView::new(&self.log.tiles, size);
        let mut at = 0;
        let mut items = Vec::new();
        for index in entries {
            let record = &self.records[usize::try_from(*index).unwrap()];
            let place = history::Place {
                index: *index,
                from: at,
                gap: view.gap(at..*index).unwrap(),
            };
            at = index + 1;
            items.push(if self.is_erased(*index) {
                Item::Erased(ErasedItem {
                    place,
                    leaf: Leaf::of(&record.envelope, record.key()).to_bytes(),
                })
            } else {
                Item::Record(RecordItem {
                    place,
                    signature: record.envelope.signature().to_vec(),
                    statement: record.envelope.payload().to_vec(),
                })
            });
        }
        items.push(Item::Tail(view.gap(at..size).unwrap()));
        items
    }

    /// A history with this header and these frames, and the account of a plan.
    pub fn file(&self, selection: &Selection, plan: &Plan, items: Vec<Item>) -> Vec<u8> {
        self.file_with(self.log.checkpoint(), selection, plan, items)
    }

    pub fn file_with(
        &self,
        checkpoint: SignedCheckpoint,
        selection: &Selection,
        plan: &Plan,
        items: Vec<Item>,
    ) -> Vec<u8> {
        let records = items.iter().filter(|item| matches!(item, Item::Record(_)));
        let header = Header {
            checkpoint,
            selection: selection.clone(),
            records: u64::try_from(records.count()).unwrap(),
        };
        let mut writer = HistoryWriter::start(Vec::new(), &header).unwrap();
        for item in items {
            match item {
                Item::Record(item) => writer.record(item).unwrap(),
                Item::Erased(item) => writer.erased(item).unwrap(),
                Item::Tail(gap) => return writer.finish(gap, &plan.account).unwrap(),
                Item::Stream(_) | Item::Signer(_) => unreachable!("the account comes last"),
            }
        }
        unreachable!("there is a tail")
    }

    pub fn export(&self, selection: &Selection) -> Vec<u8> {
        let plan = self.plan(selection);
        self.file(selection, &plan, self.items(&plan.entries))
    }

    pub fn policy_file(&self) -> PolicyFile {
        let lines = [self.log.policy_line(), "quorum none".to_owned()];
        let mut file = PolicyFile::new(lines.to_vec());
        for (who, name) in [(&self.provider, "provider"), (&self.caller, "caller")] {
            let controls: Vec<_> = (0..)
                .zip(&self.records)
                .filter(|(_, record)| record.signer_id() == who.id)
                .filter(|(_, r)| matches!(r.statement.predicate, Predicate::Control(_)))
                .map(|(index, record)| self.log.bundle(record, index))
                .collect();
            file.add_signer(who.id, name, &[name], &controls).unwrap();
        }
        file
    }

    pub fn policy(&self) -> TrustPolicy {
        TrustPolicy::parse(&self.policy_file().to_json().unwrap()).unwrap()
    }
}

/// The summaries, and no records.
pub fn summaries_of(names: Selection) -> Selection {
    Selection {
        summaries: true,
        ..names
    }
}

/// Only the records about these endpoints.
pub fn only(endpoints: &[Endpoint]) -> Selection {
    Selection {
        endpoints: endpoints.iter().cloned().collect(),
        ..Selection::default()
    }
}
