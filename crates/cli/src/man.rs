//! `kavka man`: manual pages, made from the definitions of the options.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write a page for each command into this directory, which is made if missing; without it, one page goes to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// The command to write a page for, such as: group seek
    #[arg(conflicts_with = "dir")]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut command = crate::command();
    command.build();
    if let Some(dir) = &args.dir {
        let failed = |error| Failure::new(format!("cannot write to {}: {error}", dir.display()));
        std::fs::create_dir_all(dir).map_err(failed)?;
        return write_all(&command, dir).map_err(failed);
    }
    let mut chosen = &command;
    for name in &args.command {
        chosen = chosen.find_subcommand(name).ok_or_else(|| {
            Failure::usage(format!("there is no command {}", args.command.join(" ")))
                .advise("See kavka --help.")
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(chosen.clone()).title(title(chosen)).render(&mut page)?;
    Ok(io::stdout().lock().write_all(&page)?)
}

fn write_all(command: &clap::Command, dir: &Path) -> io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(title(command)).render(&mut page)?;
    std::fs::write(dir.join(format!("{}.1", title(command))), page)?;
    let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set());
    shown.filter(|inner| inner.get_name() != "help").try_for_each(|inner| write_all(inner, dir))
}

/// `kavka-group-seek`.
fn title(command: &clap::Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}
