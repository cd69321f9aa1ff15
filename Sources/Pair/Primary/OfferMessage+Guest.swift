import Hypervisor
import Messages
import Model
import Protocol

extension OfferMessage {
    /// What `guest` needs at a standby, to be protected as `options` and `tuning` say.
    init(_ session: SessionOffer, of guest: any Guest, _ options: PrimaryOptions, _ tuning: EpochTuning) {
        let isHeld = session.level.holdsOutput
        self.init(
            session: session, vm: guest.vm, guest: guest.description, blocks: isHeld ? guest.blocks : [],
            disks: guest.offeredDisks, nics: isHeld ? guest.offeredNICs : [], tuning: tuning,
            silenceMilliseconds: options.silenceMilliseconds,
            silenceFloorMilliseconds: options.silenceFloorMilliseconds,
            heartbeatMilliseconds: options.heartbeatMilliseconds, createsImages: options.createsImages ? true : nil)
    }
}
