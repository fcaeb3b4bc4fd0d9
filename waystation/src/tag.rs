//! `waystation tag`.

use super::{
    AdminError, Result,
    cli::{Answer, Common},
    connect::Connection,
    record,
    secrets::KeySource,
};
use parcel::{
    record::Public,
    tag::{Tag, baseline_features},
    wire::guest::MEMORY_MIB,
};

pub(super) const EXAMPLE: &str = "\
Settings: memory=MIB (64 to 262144), vcpus=N, baseline=x86-64-vN (these only while the machine is off), screen=COLUMNSxROWS, cores=N, \
sound=yes|no, bandwidth=KBIT; an empty value removes a preference. A change is a new version.

Example:
  waystation tag work --set memory=1024 --set bandwidth=2000";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Name or id of the parcel.
    parcel: String,
    /// Change a requirement; may be repeated.
    #[arg(long, value_name = "WHAT=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    key: KeySource,
}

pub(super) async fn run(common: &Common, arguments: Arguments) -> Result<Answer> {
    let changes: Vec<_> = arguments.set.iter().map(|text| Change::parse(text)).collect::<Result<_>>()?;
    let connection = Connection::open(common).await?;
    if changes.is_empty() {
        let info = connection.find(&arguments.parcel).await?;
        return Answer::new(&info.tag, info.tag.as_ref().map_or(String::new(), lines));
    }
    let opened = record::open(&connection, &arguments.parcel, &arguments.key).await?;
    if opened.record.public.suspended() && changes.iter().any(Change::of_the_machine) {
        let text = "the machine is suspended, so its memory and CPUs are what they are; shut it down first";
        return Err(AdminError::input(text));
    }
    let info =
        record::replace(&connection, opened, |public| changes.iter().for_each(|change| change.apply(public)))
            .await?;
    Answer::new(&info.tag, info.tag.as_ref().map_or(String::new(), lines))
}

enum Change {
    Memory(u64),
    Vcpus(u32),
    Baseline(String),
    Screen(Option<(u32, u32)>),
    Cores(Option<u32>),
    Sound(bool),
    Bandwidth(Option<u64>),
}

impl Change {
    fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| AdminError::input(format!("--set {text}: {why}"));
        let (what, value) = text.split_once('=').ok_or_else(|| bad("write it as WHAT=VALUE"))?;
        let number = |most: u64| {
            let number: u64 = value.parse().map_err(|_| bad("the value is not a number"))?;
            if number == 0 || number > most {
                Err(bad(&format!("it goes from 1 to {most}")))
            } else {
                Ok(number)
            }
        };
        let wish = |most| if value.is_empty() { Ok(None) } else { number(most).map(Some) };
        Ok(match what {
            "memory" => match number(*MEMORY_MIB.end())? {
                mib if MEMORY_MIB.contains(&mib) => Self::Memory(mib),
                _ => return Err(bad(&format!("a machine has at least {} MiB", MEMORY_MIB.start()))),
            },
            "vcpus" => Self::Vcpus(number(32)? as u32),
            "baseline" => match baseline_features(value) {
                Some(_) => Self::Baseline(value.to_owned()),
                None => return Err(bad("the baselines are x86-64-v1, x86-64-v2 and x86-64-v3")),
            },
            "screen" if value.is_empty() => Self::Screen(None),
            "screen" => {
                let size = value.split_once('x').and_then(|(c, r)| Some((c.parse().ok()?, r.parse().ok()?)));
                Self::Screen(Some(size.ok_or_else(|| bad("write it as COLUMNSxROWS"))?))
            }
            "cores" => Self::Cores(wish(1024)?.map(|cores| cores as u32)),
            "sound" => Self::Sound(match value {
                "yes" => true,
                "no" | "" => false,
                _ => return Err(bad("it is yes or no")),
            }),
            "bandwidth" => Self::Bandwidth(wish(1 << 40)?),
            _ => return Err(bad("there is no such requirement; waystation tag --help lists them")),
        })
    }

    fn of_the_machine(&self) -> bool {
        matches!(self, Self::Memory(_) | Self::Vcpus(_) | Self::Baseline(_))
    }

    fn apply(&self, public: &mut Public) {
        let (tag, machine) = (&mut public.tag, &mut public.machine);
        match self {
            Self::Memory(mib) => (tag.memory_mib, machine.memory_mib) = (*mib, *mib),
            Self::Vcpus(n) => (tag.vcpus, machine.vcpus) = (*n, *n),
            Self::Baseline(name) => {
                tag.cpu.features = baseline_features(name).unwrap_or_default();
                tag.cpu.baseline.clone_from(name);
                machine.cpu_baseline.clone_from(name);
            }
            Self::Screen(size) => tag.wishes.screen = *size,
            Self::Cores(n) => tag.wishes.cores = *n,
            Self::Sound(wanted) => tag.wishes.sound = *wanted,
            Self::Bandwidth(kbit) => tag.wishes.kbit_per_s = *kbit,
        }
    }
}

/// A tag for people.
pub(super) fn lines(tag: &Tag) -> String {
    let vendor = tag.cpu.vendor.as_deref().unwrap_or("any vendor");
    let mut text = format!(
        "CPU      {}, {vendor}\nvCPUs    {}\nmemory   {} MiB\ndevices  model {}\n",
        tag.cpu.baseline, tag.vcpus, tag.memory_mib, tag.device_model
    );
    let wishes = &tag.wishes;
    let mut wished = Vec::new();
    wished.extend(wishes.screen.map(|(columns, rows)| format!("screen {columns}x{rows}")));
    wished.extend(wishes.cores.map(|cores| format!("{cores} cores")));
    wished.extend(wishes.sound.then(|| "sound".to_owned()));
    wished.extend(wishes.kbit_per_s.map(|kbit| format!("{kbit} kbit/s")));
    if !wished.is_empty() {
        text += &format!("wishes   {}\n", wished.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_parsed_or_refused_with_a_reason() {
        for good in [
            "memory=512",
            "memory=262144",
            "vcpus=2",
            "baseline=x86-64-v3",
            "screen=80x25",
            "screen=",
            "cores=",
            "sound=yes",
            "bandwidth=100",
        ] {
            assert!(Change::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "memory",
            "memory=",
            "memory=63",
            "memory=262145",
            "vcpus=33",
            "vcpus=0",
            "baseline=486",
            "screen=80",
            "sound=loud",
            "colour=red",
        ] {
            let error = Change::parse(bad).err().expect(bad).error;
            assert!(error.message.starts_with(&format!("--set {bad}: ")), "{error}");
        }
    }
}
