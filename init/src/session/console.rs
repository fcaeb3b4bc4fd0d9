//! The size of the guest's console, which follows the screen's.

use super::Kiosk;
use crate::system::Ticket;
use parcel::wire::vmm;

/// Columns and rows of the guest's console.
#[derive(Debug, Default)]
pub(super) struct ConsoleSize {
    /// What the screens have room for.
    wanted: Option<(u16, u16)>,
    /// What the VMM was told.
    told: Option<(u16, u16)>,
    /// And has not answered yet.
    asked: Option<Ticket>,
}

impl ConsoleSize {
    /// The screens have changed.
    pub(super) fn want(&mut self, cols: u16, rows: u16) {
        self.wanted = Some((cols, rows));
    }

    /// Whether `ticket` is the VMM's answer about the size; then the next may be sent.
    pub(super) fn is_about(&mut self, ticket: Ticket) -> bool {
        self.asked.take_if(|asked| *asked == ticket).is_some()
    }
}

impl Kiosk<'_> {
    /// Tells the VMM the console's size; one request at a time, however often the size changes.
    pub(super) fn tell_size(&mut self) {
        let size = &mut self.console;
        if let Some((cols, rows)) = size.wanted.filter(|wanted| size.told != Some(*wanted))
            && size.asked.is_none()
        {
            size.told = Some((cols, rows));
            size.asked = Some(self.sys.ask_vmm(vmm::Request::ConsoleSize { cols, rows }));
        }
    }
}
