//! What the operating system knows about a process: CPU time and memory, read from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context, bail};

/// CPU time of all threads of a process, also of those that ended: user and system time together.
///
/// The kernel reports it in ticks (10 ms as a rule), so a measurement should cost the broker some 100 ms or more.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path)
        .with_context(|| format!("no process {pid}: is the broker still running?"))?;
    // The second field is the program's name in parentheses, in which anything may stand.
    let (_, fields) =
        stat.rsplit_once(") ").with_context(|| format!("{path} has an unknown form"))?;
    let mut fields = fields.split(' ');
    let ticks = |field: Option<&str>| -> anyhow::Result<u64> {
        field.and_then(|f| f.parse().ok()).with_context(|| format!("{path} has an unknown form"))
    };
    let user = ticks(fields.nth(11))?;
    let system = ticks(fields.next())?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64((user + system) as f64 / per_second as f64))
}

/// CPU time of this program.
pub(crate) fn own_cpu_time() -> anyhow::Result<Duration> {
    cpu_time(std::process::id())
}

/// Bytes of memory that a process has resident (`VmRSS`).
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path)
        .with_context(|| format!("no process {pid}: is the broker still running?"))?;
    for line in status.lines() {
        if let Some(value) = line.strip_prefix("VmRSS:") {
            let kib: u64 = value
                .trim()
                .trim_end_matches(" kB")
                .parse()
                .with_context(|| format!("{path} has an unknown form: '{line}'"))?;
            return Ok(kib * 1024);
        }
    }
    bail!("{path} tells no VmRSS: process {pid} has ended")
}

/// Raises the limit of open files of this process, and of brokers it starts, to what the system allows.
///
/// # Errors
/// The hard limit is below `wanted`.
pub(crate) fn raise_open_file_limit(wanted: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < wanted) {
        bail!(
            "{wanted} open files are needed, the hard limit is {maximum}: raise it with `ulimit -Hn`"
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
        .context("cannot raise the limit of open files")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn this_process_has_cpu_time_and_memory() {
        let before = own_cpu_time().unwrap();
        let mut sum = 0_u64;
        while own_cpu_time().unwrap() - before < Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu_time(u32::MAX).is_err());
        assert!(resident_bytes(u32::MAX).is_err());
    }
}
