//! `docs/errors.md` is made from the table of codes.
//!
//! `BLESS=1 cargo test -p parcel --test formats codes` writes it anew.

use parcel::wire::{Code, Fate, Stake, code::Origin};
use std::fmt::Write as _;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");

const HEAD: &str = "\
# Codes of errors

<!-- Made from `parcel/src/wire/code/table.rs`; `BLESS=1 cargo test -p parcel --test formats codes` writes it anew. -->

Every error that travels between the parts of Waystation is a code for IT and a sentence for the traveller
(`parcel::wire::WireError`). A code has one meaning and never changes it. Sentences may be reworded. A program that meets a code of
another version keeps it as it came, up to 40 characters.

What a part does about an error follows from its code and from what is at stake (`Code::fate`). The column *tried again* says when
the step that failed is tried again without anybody asking for it:

| tried again | meaning |
|---|---|
| yes | Always: it passes by itself. |
| with a lock | While the kiosk holds the lock: somebody can mend it, and the session waits. Before the lock it ends the step. |
| with work | Only while a user's work is at stake: then nobody but its owner gives up. |
| after log-in | When the same user has logged in again. |
| no | The error proves that this kiosk can never do the step. |

A code that the program does not know is tried again *with work*.
";

const SECTIONS: [(Origin, &str); 6] = [
    (
        Origin::Server,
        "## Parcel server

The body of every answer other than 2xx. Where it helps, `misses` names each requirement of the tag that the kiosk does not meet, and
`holder` says who holds the lock.",
    ),
    (
        Origin::Login,
        "## Log-in

Made by the client from what Kerberos says. An unknown user and a wrong password are one code on purpose.",
    ),
    (
        Origin::Screens,
        "## Kiosk screens

`kiosk-ui` shows the codes of this page, and adds these.",
    ),
    (
        Origin::Client,
        "## Client engine and `waystation`

`cached` and `waystation` pass on what the server refuses, and add these. While something waits, `waiting.code` is one of them too.",
    ),
    (
        Origin::Kiosk,
        "## Kiosk

From `init`, as notices on the login screen. The sentence also says what was lost, and whether the lock stays.",
    ),
    (
        Origin::Vmm,
        "## Virtual machine monitor

From `vmm`, as answers on `vmm.sock`; when the machine cannot be started, the sentence is the last line of its log.",
    ),
];

fn again(code: Code) -> &'static str {
    match [Stake::Nothing, Stake::Lock, Stake::Work].map(|stake| code.fate(stake)) {
        [Fate::NeedsLogin, ..] => "after log-in",
        [Fate::Retry, ..] => "yes",
        [_, Fate::Retry, _] => "with a lock",
        [_, _, Fate::Retry] => "with work",
        _ => "no",
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (origin, intro) in SECTIONS {
        let http = origin == Origin::Server;
        let (title, line) = if http { (" HTTP |", "---|") } else { ("", "") };
        writeln!(
            page,
            "\n{intro}\n\n| code |{title} tried again | what happened | what to do |\n|---|{line}---|---|---|"
        )
        .unwrap();
        for code in Code::ALL.iter().filter(|code| code.origin() == Some(origin)) {
            let status = code.status().map(|status| format!(" {status} |")).unwrap_or_default();
            writeln!(page, "| `{code}` |{status} {} | {} | {} |", again(*code), code.cause(), code.remedy())
                .unwrap();
        }
    }
    page
}

#[test]
fn the_page_for_it_is_the_table_of_codes() {
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap();
    let differs = page.lines().zip(written.lines()).find(|(made, written)| made != written);
    assert_eq!(differs, None, "docs/errors.md is not what the table says; write it with BLESS=1");
    assert_eq!(page, written);
}

#[test]
fn every_code_has_a_sentence_and_a_remedy() {
    for code in Code::ALL {
        for text in [code.cause(), code.remedy()] {
            assert!(text.ends_with(['.', '?']) && !text.contains(['|', '\n']), "{code}: {text}");
        }
        assert!(SECTIONS.iter().any(|(origin, _)| code.origin() == Some(*origin)), "{code}");
    }
}

/// Every code that a user can bring from a screen is in docs/troubleshooting.md, and no code is there that does not exist.
#[test]
fn troubleshooting_has_every_code_that_a_user_can_bring() {
    let page = include_str!("../../../docs/troubleshooting.md");
    let users =
        page.split("## A user stands at a kiosk").nth(1).unwrap().split("## The server").next().unwrap();
    let rows = users.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let named =
        rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|named| !named.starts_with('['));
    for named in named {
        assert!(
            Code::ALL.iter().any(|code| code.text() == named),
            "docs/troubleshooting.md: `{named}` is no code"
        );
    }
    for code in Code::ALL {
        if matches!(code.origin(), Some(Origin::Login | Origin::Screens)) {
            assert!(users.contains(&format!("`{code}`")), "docs/troubleshooting.md lacks `{code}`");
        }
    }
}
