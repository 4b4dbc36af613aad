//! `kavka topic list`.

use crate::{
    failure::Failure,
    options::Options,
    output::{Report, Table, column, wide},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also those that the cluster keeps its own affairs in
    #[arg(long)]
    internal: bool,
}

pub(super) async fn run(options: &Options, args: Args) -> Result<(), Failure> {
    let topics = options.admin()?.list_topics().await?;
    let mut table =
        Table::new([column("topic"), column("partitions"), wide("topic_id"), wide("internal")]);
    for topic in topics.into_iter().filter(|topic| args.internal || !topic.is_internal) {
        table.push([
            topic.name.to_string().into(),
            topic.partitions.into(),
            topic.id.map(|id| id.to_string()).into(),
            topic.is_internal.into(),
        ]);
    }
    if table.is_empty() {
        options.notes().say("There are no topics.");
    }
    Report::list("kavka.topic.list", table).print(options.format())
}
