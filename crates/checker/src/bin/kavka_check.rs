//! `kavka-check FILE`: judges a history that was written to a file, see `docs/history.md`.

use std::{
    fs::File,
    io::{self, BufReader, Write},
    process::ExitCode,
};

use kavka_checker::{Anomaly, History, Limits, Report, Verdict, check};

const USAGE: &str = "\
usage: kavka-check [--json] [--min-ok PERCENT] [--min-faults COUNT] [--max-steps COUNT] FILE

Judges a history of what Kafka clients saw: one JSON object a line, see docs/history.md. FILE \"-\" is standard input.

  --json              one JSON object in place of text
  --min-ok PERCENT    operations that must have happened, or the verdict is unknown (default 80)
  --min-faults COUNT  faults that must have landed, or the verdict is unknown (default 1)
  --max-steps COUNT   steps for the search at one committed offset (default 1000000)

Exit codes: 0 valid, 1 invalid, 2 usage or unreadable history, 3 unknown.";

/// What is wanted.
#[derive(Debug)]
struct Args {
    file: String,
    json: bool,
    limits: Limits,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("kavka-check: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(Verdict::Valid) => ExitCode::SUCCESS,
        Ok(Verdict::Invalid) => ExitCode::from(1),
        Ok(Verdict::Unknown) => ExitCode::from(3),
        Err(error) => {
            eprintln!("kavka-check: {}: {error}", args.file);
            ExitCode::from(2)
        }
    }
}

/// The arguments; none: help is wanted.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let (mut file, mut json, mut limits) = (None, false, Limits::default());
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64, String> {
            let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            value.parse().map_err(|_| format!("{arg} needs a number, not {value:?}"))
        };
        match arg.as_str() {
            "-h" | "--help" => return Ok(None),
            "--json" => json = true,
            "--min-ok" => {
                let percent = u32::try_from(number()?).ok().filter(|percent| *percent <= 100);
                limits.min_ok_percent = percent.ok_or("--min-ok is a number from 0 to 100")?;
            }
            "--min-faults" => {
                limits.min_faults =
                    usize::try_from(number()?).map_err(|error| error.to_string())?;
            }
            "--max-steps" => limits.max_search_steps = number()?,
            _ if arg.starts_with('-') && arg != "-" => {
                return Err(format!("{arg} is not an option"));
            }
            _ if file.is_some() => return Err("one file at a time".to_owned()),
            _ => file = Some(arg),
        }
    }
    let file = file.ok_or("which file?")?;
    Ok(Some(Args { file, json, limits }))
}

fn run(args: &Args) -> Result<Verdict, Box<dyn std::error::Error>> {
    let history = if args.file == "-" {
        History::read(io::stdin().lock())?
    } else {
        History::read(BufReader::new(File::open(&args.file)?))?
    };
    let report = check(&history, &args.limits)?;
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &history, &report)?
    } else {
        print_text(&mut out, &history, &report)?
    }
    Ok(report.verdict)
}

/// The report, with the events that its anomalies name.
fn print_json(out: &mut impl Write, history: &History, report: &Report) -> io::Result<()> {
    let mut json = serde_json::to_value(report)?;
    let shown: std::collections::BTreeMap<usize, serde_json::Value> = report
        .anomalies
        .iter()
        .flat_map(|anomaly| &anomaly.events)
        .map(|event| Ok((*event, serde_json::to_value(&history.events[*event])?)))
        .collect::<Result<_, serde_json::Error>>()?;
    json["events"] = serde_json::to_value(shown)?;
    serde_json::to_writer(&mut *out, &json)?;
    writeln!(out)
}

fn print_text(out: &mut impl Write, history: &History, report: &Report) -> io::Result<()> {
    for anomaly in &report.anomalies {
        print_anomaly(out, history, anomaly)?;
    }
    let metrics = &report.metrics;
    writeln!(
        out,
        "{} operations: {} ok, {} failed, {} unknown; {} faults; {} values acknowledged, {} of them never read",
        metrics.operations,
        metrics.ok,
        metrics.failed,
        metrics.unknown,
        metrics.faults,
        metrics.acknowledged,
        metrics.unseen
    )?;
    writeln!(
        out,
        "{} committed offsets searched for a common order, {} given up; consumers were behind by at most {} ms",
        metrics.registers,
        metrics.registers_undecided,
        metrics.worst_realtime_lag / 1_000_000
    )?;
    for doubt in &report.doubts {
        writeln!(out, "in doubt: {doubt}")?;
    }
    writeln!(out, "{}", report.verdict)
}

fn print_anomaly(out: &mut impl Write, history: &History, anomaly: &Anomaly) -> io::Result<()> {
    let allowed = if anomaly.allowed { " (allowed)" } else { "" };
    let about =
        if anomaly.subject.is_empty() { String::new() } else { format!(" {}:", anomaly.subject) };
    writeln!(out, "{}{allowed}:{about} {}", anomaly.kind, anomaly.message)?;
    for event in &anomaly.events {
        writeln!(out, "  event {event}: {}", serde_json::to_string(&history.events[*event])?)?;
    }
    Ok(())
}
