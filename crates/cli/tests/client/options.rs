//! What all client commands share: where the cluster is, profiles, formats, exit codes, closed pipes.

use std::{fs, io::Read, process::Stdio};

use crate::cluster::{Cluster, only, run};

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_named_by_flag_environment_profile_or_file() {
    let cluster = Cluster::start().await;
    let address = cluster.broker.bootstrap_servers();
    let list = ["topic", "list", "-o", "json"];
    let dead = "127.0.0.1:1";

    let mut flag = cluster.command(&["-o", "json", "-b", &address, "topic", "list"]);
    only(&run(flag.env("KAVKA_BOOTSTRAP_SERVERS", dead), b"").json());
    let mut flag = cluster.command(&["topic", "-o", "json", "list", "-b", &address]);
    only(&run(flag.env("KAVKA_BOOTSTRAP_SERVERS", dead), b"").json());
    let property = format!("bootstrap.servers={address}");
    let mut by_property = cluster.command(&["topic", "list", "-o", "json", "-X", &property]);
    only(&run(by_property.env("KAVKA_BOOTSTRAP_SERVERS", dead), b"").json());

    let dir = cluster.home.path().join(".config/kavka");
    fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "default = \"near\"\n[profiles.near]\nbootstrap.servers = \"{address}\"\nacks = \"all\"\n\
         [profiles.far]\nbootstrap.servers = \"{dead}\"\ndefault.api.timeout.ms = 100\nrequest.timeout.ms = 100\n"
    );
    fs::write(dir.join("config.toml"), text).unwrap();
    let mut by_default = cluster.command(&list);
    only(&run(by_default.env_remove("KAVKA_BOOTSTRAP_SERVERS"), b"").json());
    run(
        cluster.command(&list).env_remove("KAVKA_BOOTSTRAP_SERVERS").env("KAVKA_PROFILE", "far"),
        b"",
    )
    .failed(1, "127.0.0.1:1");
    let mut by_flag = cluster.command(&["topic", "list", "-o", "json", "--profile", "near"]);
    only(&run(by_flag.env("KAVKA_BOOTSTRAP_SERVERS", dead), b"").json());
    run(&mut cluster.command(&["topic", "list", "--profile", "away"]), b"")
        .failed(2, "It has these: far, near.");

    let file = cluster.home.path().join("client.properties");
    fs::write(&file, format!("bootstrap.servers={address}\ngroup.id=g\n")).unwrap();
    let mut by_file = cluster.command(&[
        "topic",
        "list",
        "-o",
        "json",
        "--command-config",
        file.to_str().unwrap(),
    ]);
    only(&run(by_file.env("KAVKA_BOOTSTRAP_SERVERS", dead), b"").json());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_2_and_says_what_is_wrong() {
    let cluster = Cluster::start().await;
    let missing = cluster.home.path().join("missing.properties");
    for (args, said) in [
        (&["topic"][..], "Usage"),
        (&["topic", "lst"], "list"),
        (&["topic", "list", "-o", "xml"], "jsonl"),
        (&["topic", "list", "--timeout", "5"], "expected a time"),
        (&["topic", "list", "-X", "client.idd=1"], "client.id"),
        (&["topic", "list", "-X", "novalue"], "NAME=VALUE"),
        (&["topic", "list", "-b", "nowhere"], "host:port"),
        (&["topic", "list", "-q", "-v"], "--quiet"),
        (&["-q", "topic", "list", "-v"], "--quiet"),
        (&["-o", "json", "serve"], "serve takes no options of clients"),
        (&["-o", "json"], "Usage"),
        (&["topic", "list", "--profile", "none"], "there is no profile none"),
        (&["topic", "list", "--command-config", missing.to_str().unwrap()], "missing.properties"),
        (&["topic", "alter", "orders"], "--set"),
        (&["topic", "create", "a", "-p", "0"], "0"),
        (&["group", "describe"], "GROUP"),
    ] {
        cluster.run(args).failed(2, said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_there_is_1_and_says_what_to_do() {
    let cluster = Cluster::start().await;
    let ran = cluster.run(&["topic", "list", "-b", "127.0.0.1:1", "--timeout", "300ms"]);
    ran.failed(1, "127.0.0.1:1");
    assert!(ran.stderr.contains("\n  Check that the brokers run"), "{ran:?}");
    // Nobody looks at an empty screen until the time is up.
    let waiting = "Still waiting for 127.0.0.1:1, for at most 2500 ms a call (--timeout).\n";
    let dead = ["topic", "list", "-b", "127.0.0.1:1", "--timeout", "2500ms"];
    let ran = cluster.run(&dead);
    assert!(ran.stderr.starts_with(waiting), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_failure() {
    let cluster = Cluster::start().await;
    for at in 0..40 {
        cluster
            .broker
            .create_topic(&format!("topic-with-a-long-name-{at:0>200}"), 1)
            .await
            .unwrap();
    }
    let mut command = cluster.command(&["topic", "list", "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_leaves_nothing_but_data_and_errors() {
    let cluster = Cluster::start().await;
    cluster.run(&["group", "list", "-q"]).data();
    cluster.run(&["group", "describe", "nobody", "-q"]).failed(1, "nobody");
    let dead = ["topic", "list", "-v", "-b", "127.0.0.1:1", "--timeout", "300ms"];
    let ran = cluster.run(&dead);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("DEBUG") && !ran.stderr.contains('\u{1b}'), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_name_what_is_there() {
    let cluster = Cluster::start().await;
    cluster.commit("billing", "orders", &[(0, 0)]).await;
    let complete = |line: &[&str]| {
        let mut command = cluster.command(&[&["--"], line].concat());
        let index = (line.len() - 1).to_string();
        let command = command
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_COMPLETE_SPACE", "true")
            .env("_CLAP_IFS", "\n");
        run(command, b"").stdout
    };
    assert_eq!(complete(&["kavka", "topic", "describe", "or"]), "orders");
    assert_eq!(complete(&["kavka", "group", "describe", "b"]), "billing");
    let address = cluster.broker.bootstrap_servers();
    assert_eq!(complete(&["kavka", "group", "-b", &address, "describe", "b"]), "billing");
    assert_eq!(complete(&["kavka", "-b", &address, "group", "describe", "b"]), "billing");
    assert_eq!(complete(&["kavka", "group", "-b", "127.0.0.1:1", "describe", "b"]), "");
    assert_eq!(complete(&["kavka", "completions", "z"]), "zsh");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = cluster.run(&["completions", shell]);
        assert!(ran.data().contains("COMPLETE"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_manual_say_what_each_command_is_for() {
    let cluster = Cluster::start().await;
    for (command, about) in [
        (&[][..], "A Kafka-compatible broker whose consumer groups explain themselves"),
        (&["topic"], "Look at topics and change them"),
        (&["group"], "Look at consumer groups and change them"),
        (&["group", "check"], "Check conditions, as a probe"),
        (&["produce"], "Send records, a line each"),
        (&["consume"], "Read records"),
        (&["serve"], "Run the broker"),
    ] {
        for flag in ["-h", "--help"] {
            let help = cluster.run(&[command, &[flag]].concat());
            assert!(help.data().starts_with(about), "{command:?} {help:?}");
        }
        // What is in a page of manual has its hyphens escaped.
        let page = cluster.run(&[&["man"], command].concat());
        let about = about.replace('-', "\\-");
        assert!(page.data().contains(&about), "{command:?} {page:?}");
    }
    let help = cluster.run(&["--help"]);
    assert!(help.data().contains("  consume      Read records\n"), "{help:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_a_manual_page_for_each_command() {
    let cluster = Cluster::start().await;
    let page = cluster.run(&["man"]);
    assert!(page.data().starts_with(".ie"), "{page:?}");
    let page = cluster.run(&["man", "group", "describe"]);
    assert!(page.data().contains(".TH kavka-group-describe 1"), "{page:?}");
    cluster.run(&["man", "grop"]).failed(2, "there is no command grop");
    let dir = cluster.home.path().join("man");
    cluster.run(&["man", "--dir", dir.to_str().unwrap()]).data();
    for page in ["kavka.1", "kavka-topic-create.1", "kavka-group-describe.1", "kavka-serve.1"] {
        assert!(fs::metadata(dir.join(page)).unwrap().len() > 100, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_clients_do_not_stop_a_broker() {
    let cluster = Cluster::start().await;
    let mut serve = cluster.command(&["serve", "-X", "num.partitions=none"]);
    let ran = run(serve.env("KAVKA_PROFILE", "far"), b"");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("num.partitions") && !ran.stderr.contains("PROFILE"), "{ran:?}");
}
