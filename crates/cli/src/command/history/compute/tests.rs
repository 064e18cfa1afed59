use super::*;

const NOW_MS: u64 = 1_795_712_400_000;

fn lines(format: Format, text: &str) -> Lines {
    read_lines(text.as_bytes(), format, NOW_MS).expect("the file is read")
}

fn only(format: Format, line: &str) -> Attempt {
    let lines = lines(format, line);
    assert_eq!(lines.bad.told, Vec::<String>::new());
    let [attempt] = lines.attempts.as_slice() else {
        panic!("{line} is {} attempts", lines.attempts.len());
    };
    attempt.clone()
}

#[test]
fn a_plain_line_says_what_happened() {
    let line = r#"{"time":"2026-11-26T17:00:00Z","provider":"https://api.example.com","model":"m","status":200,"streamed":true,"ttft_ms":120.5,"total_ms":900,"prompt_tokens":7,"completion_tokens":9}"#;
    let attempt = only(Format::Plain, line);
    assert_eq!(attempt.start_ms, NOW_MS);
    assert_eq!(attempt.endpoint.to_string(), "https://api.example.com/m");
    assert_eq!((attempt.outcome, attempt.fault), (Outcome::Ok, None));
    assert_eq!(
        (attempt.ttft_us, attempt.total_us),
        (Some(120_500), 900_000)
    );
    assert_eq!(attempt.tokens, Some((7, 9)));
    // Seconds, milliseconds and a database's spelling are the same moment.
    for time in [
        "1795712400",
        "1795712400000",
        r#""2026-11-26 18:00:00.000+01:00""#,
        r#""2026-11-26 17:00:00""#,
    ] {
        let again = line.replace(r#""2026-11-26T17:00:00Z""#, time);
        assert_eq!(only(Format::Plain, &again), attempt, "{time}");
    }
}

#[test]
fn what_cannot_be_is_named_by_its_line() {
    let good = r#"{"time":1795712000,"provider":"https://api.example.com","model":"m","outcome":"timeout","total_ms":5}"#;
    for (bad, why) in [
        (good.replace("1795712000", "1795713400"), "future"),
        (good.replace("1795712000", "-5"), "no time"),
        (
            good.replace("\"total_ms\":5", "\"total_ms\":-5"),
            "at least 0",
        ),
        (
            good.replace("\"total_ms\":5", "\"total_ms\":1e12"),
            "a week",
        ),
        (
            good.replace("\"total_ms\":5", "\"total_ms\":5,\"ttft_ms\":6"),
            "after its end",
        ),
        (good.replace("timeout", "tired"), "outcome"),
        (good.replace("\"outcome\":\"timeout\",", ""), "neither"),
        (
            good.replace("\"outcome\":\"timeout\"", "\"status\":700"),
            "no outcome",
        ),
        (
            good.replace("\"outcome\"", "\"fault\":\"client\",\"outcome\"")
                .replace("timeout", "capacity"),
            "fault",
        ),
        (
            good.replace("https://api.example.com", "api example"),
            "provider",
        ),
        (good.replace("\"model\"", "\"modle\""), "unknown field"),
        ("{".to_owned(), "EOF"),
    ] {
        let text = format!("{good}\n\n{bad}\n{good}");
        let lines = lines(Format::Plain, &text);
        assert_eq!((lines.attempts.len(), lines.bad.count), (2, 1), "{bad}");
        assert!(
            lines.bad.told[0].starts_with("line 3: "),
            "{}",
            lines.bad.told[0]
        );
        assert!(
            lines.bad.told[0].contains(why),
            "{why}: {}",
            lines.bad.told[0]
        );
    }
}

#[test]
fn the_order_of_lines_does_not_matter() {
    let line = |at: u64, outcome: &str| {
        format!(
            r#"{{"time":{at},"provider":"https://api.example.com","model":"m","outcome":"{outcome}","total_ms":50}}"#
        )
    };
    let in_order: Vec<String> = (0..50u64)
        .map(|n| {
            line(
                1_795_000_000 + 60 * n,
                if n % 7 == 0 { "provider_error" } else { "ok" },
            )
        })
        .collect();
    let mut backwards = in_order.clone();
    backwards.reverse();
    let folded = |of: &[String]| {
        let attempts = lines(Format::Plain, &of.join("\n")).attempts;
        fold(attempts)
            .expect("it folds")
            .report(Alpha::FIVE_PERCENT)
    };
    let report = folded(&in_order);
    assert_eq!(folded(&backwards), report);
    let [endpoint] = report.endpoints.as_slice() else {
        panic!("one endpoint");
    };
    assert_eq!(
        (endpoint.calls, endpoint.successes, endpoint.failures),
        (50, 42, 8)
    );
    assert!(endpoint.unilateral);
    assert_eq!((endpoint.gaps, endpoint.unknown), (0, 0));
}

#[test]
fn litellms_payloads_and_spend_logs_are_understood() {
    let ok = r#"{"id":"x","call_type":"acompletion","stream":true,"status":"success","startTime":1795712000.0,"endTime":1795712002.5,"completionStartTime":1795712000.25,"response_time":0.25,"model":"gpt-x","api_base":"https://api.example.com/v1/","custom_llm_provider":"openai","prompt_tokens":3,"completion_tokens":4,"cache_hit":false}"#;
    let attempt = only(Format::Litellm, ok);
    assert_eq!(
        attempt.endpoint.to_string(),
        "https://api.example.com/gpt-x"
    );
    assert_eq!(
        (attempt.ttft_us, attempt.total_us),
        (Some(250_000), 2_500_000)
    );
    for (code, class, outcome) in [
        ("\"429\"", "RateLimitError", Outcome::RateLimited),
        ("503", "ServiceUnavailableError", Outcome::Capacity),
        ("\"400\"", "BadRequestError", Outcome::ClientError),
        ("\"\"", "Timeout", Outcome::Timeout),
        ("null", "APIConnectionError", Outcome::Connection),
        ("null", "SomethingNew", Outcome::ProviderError),
    ] {
        let failed = ok.replace(
            r#""status":"success""#,
            &format!(r#""status":"failure","error_information":{{"error_code":{code},"error_class":"{class}"}}"#),
        );
        let attempt = only(Format::Litellm, &failed);
        assert_eq!(attempt.outcome, outcome, "{class}");
        assert_eq!(attempt.fault, outcome.usual_fault());
    }
    // A row of the table: times are text, the status is inside, an answer in one piece.
    let row = r#"{"request_id":"r","startTime":"2026-11-26 16:00:00.000","endTime":"2026-11-26 16:00:01.000","completionStartTime":"2026-11-26 16:00:01.000","model":"m","api_base":"","custom_llm_provider":"together_ai","prompt_tokens":1,"completion_tokens":1,"cache_hit":"False","metadata":{"status":"failure","error_information":{"error_code":"500"}}}"#;
    let attempt = only(Format::Litellm, row);
    assert_eq!(
        attempt.endpoint.to_string(),
        "https://together-ai.invalid/m"
    );
    assert_eq!(
        (attempt.outcome, attempt.ttft_us),
        (Outcome::ProviderError, None)
    );
    let cached = lines(Format::Litellm, &row.replace("\"False\"", "\"True\""));
    assert_eq!((cached.attempts.len(), cached.apart), (0, 1));
    let backwards = lines(Format::Litellm, &row.replace("16:00:01", "15:00:01"));
    assert_eq!(backwards.bad.count, 1);
}

#[test]
fn openrouters_csv_and_answers_are_understood() {
    let csv = "generation_id,created_at,cost_total,tokens_prompt,tokens_completion,model_permaslug,provider_name,variant,cancelled,streamed,finish_reason_raw,finish_reason_normalized,generation_time_ms,time_to_first_token_ms,app_name\n\
        gen-1,2026-11-26T16:00:00.000Z,0.1,10,20,org/model,\"Some, Provider\",standard,false,true,stop,stop,1200,300,x\n\
        gen-2,2026-11-26T16:01:00.000Z,0.1,10,0,org/model,Other,standard,true,true,,,50,,x\n\
        gen-3,2026-11-26T16:02:00.000Z,0.1,10,0,org/model,Other,standard,false,true,,error,50,,x\n\
        gen-4,never,0.1,10,0,org/model,Other,standard,false,true,,error,50,,x\n";
    let read = lines(Format::Openrouter, csv);
    let outcomes: Vec<_> = read.attempts.iter().map(|a| a.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Ok, Outcome::Canceled, Outcome::ProviderError]
    );
    let first = &read.attempts[0];
    assert_eq!(
        first.endpoint.to_string(),
        "https://openrouter.ai/org/model@Some, Provider"
    );
    assert_eq!((first.ttft_us, first.total_us), (Some(300_000), 1_500_000));
    assert_eq!(read.bad.count, 1);
    assert!(
        read.bad.told[0].starts_with("line 5: "),
        "{}",
        read.bad.told[0]
    );
    let answer = r#"{"data":{"id":"gen-1","created_at":"2026-07-15T23:33:19.433273+00:00","model":"org/model","streamed":true,"cancelled":false,"provider_name":"P","latency":1250,"generation_time":1200,"finish_reason":"stop","tokens_prompt":10,"tokens_completion":25}}"#;
    let attempt = only(Format::Openrouter, answer);
    assert_eq!(
        (attempt.outcome, attempt.total_us),
        (Outcome::Ok, 2_450_000)
    );
    let error = read_lines("date,model\n1,2\n".as_bytes(), Format::Openrouter, NOW_MS);
    assert!(error.is_err(), "another CSV");
    assert!(lines(Format::Plain, "").attempts.is_empty());
}
