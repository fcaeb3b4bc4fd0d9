//! The loop: events in, screens out.

use crate::{
    app::{About, App},
    effects::{Real, now},
    event::Event,
    screens,
    terminal::{self, Tty},
};
use anyhow::Context as _;
use parcel::wire::kiosk::Kiosk;
use std::{path::Path, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

/// Events that may wait.
const EVENTS: usize = 64;
/// Pieces of the guest's output that may wait; the guest is held back beyond. They have a channel of their own, so that
/// whatever the guest prints, a key and a word of `init` come first.
const OUTPUT: usize = 4;
/// Between two pictures, so that a guest that prints a lot costs no more than one that prints a little.
const FRAME: Duration = Duration::from_millis(30);

/// Reads and checks the kiosk's configuration.
pub fn read_config(path: &Path) -> anyhow::Result<Kiosk> {
    let text = std::fs::read(path)
        .with_context(|| format!("reading {}; --config says where it is", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a kiosk's configuration; build the image again", path.display()))
}

/// Shows the screens until the terminal goes or the process is told to end.
pub async fn run(config: &Kiosk, run: &Path, ca: &Path, kdc_ca: &Path) -> anyhow::Result<()> {
    let (send, mut events) = mpsc::channel(EVENTS);
    let (print, mut output) = mpsc::channel(OUTPUT);
    let mut effects = Real::start(config, run, ca, kdc_ca, send.clone(), print)?;
    let mut tty = Tty::take().context("taking the terminal; run this on a console or a serial line")?;
    let about = About {
        title: config.title.clone(),
        realm: config.realm.name.clone(),
        server: config.server_url.clone(),
        glyphs: terminal::glyphs(),
        session: config.session.clone(),
    };
    let mut app = App::new(about, tty.size(), now());
    terminal::read_keys(send.clone(), tty.asked()).context("reading the keyboard")?;
    watch_signals(send.clone()).context("watching signals")?;
    tick(send);

    let mut drawn: Option<Instant> = None;
    loop {
        if let Some(drawn) = drawn {
            // Everything that comes until the next picture is due goes into it.
            let due = drawn + FRAME;
            let mut any = false;
            loop {
                let event = tokio::select! {
                    biased;
                    event = events.recv() => event,
                    () = sleep_until(due), if any => break,
                    Some(event) = output.recv() => Some(event),
                };
                let Some(event) = event else { return Ok(()) };
                if let Event::Resize(cols, rows) = event {
                    tty.resize(cols, rows)?;
                }
                app.handle(event, &mut effects);
                any = true;
                if app.ended() || Instant::now() >= due {
                    break;
                }
            }
        }
        if app.ended() {
            break;
        }
        if app.take_repaint() {
            tty.repaint()?;
        }
        app.caps_lock = terminal::caps_lock();
        tty.screen.draw(|frame| screens::draw(&app, frame)).context("drawing")?;
        drawn = Some(Instant::now());
    }
    Ok(())
}

/// Ends at SIGTERM, SIGHUP and SIGINT; measures anew at SIGWINCH.
fn watch_signals(events: mpsc::Sender<Event>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut resized = signal(SignalKind::window_change())?;
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                _ = terminate.recv() => Event::Quit,
                _ = hangup.recv() => Event::Quit,
                _ = interrupt.recv() => Event::Quit,
                _ = resized.recv() => match terminal::measure() {
                    Some((cols, rows)) => Event::Resize(cols, rows),
                    None => continue,
                },
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn tick(events: mpsc::Sender<Event>) {
    tokio::spawn(async move {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            seconds.tick().await;
            terminal::release_scroll_lock();
            if events.send(Event::Tick(now())).await.is_err() {
                return;
            }
        }
    });
}
