/// The chips that application images are for, by their number in the image's header (esp_app_format.h; E22 from
/// esptool).
package enum Chip: UInt16, CaseIterable, Sendable {
    case esp32 = 0x0000
    case esp32s2 = 0x0002
    case esp32c3 = 0x0005
    case esp32s3 = 0x0009
    case esp32c2 = 0x000C
    case esp32c6 = 0x000D
    case esp32h2 = 0x0010
    case esp32p4 = 0x0012
    case esp32c61 = 0x0014
    case esp32c5 = 0x0017
    case esp32h21 = 0x0019
    case esp32h4 = 0x001C
    case esp32e22 = 0x001F
    case esp32s31 = 0x0020

    /// What no chip has (ESP_CHIP_ID_INVALID).
    static let invalid: UInt16 = 0xFFFF

    /// As Espressif writes it: `ESP32-S3`.
    package var name: String {
        let suffix = "\(self)".dropFirst("esp32".count).uppercased()
        return suffix.isEmpty ? "ESP32" : "ESP32-\(suffix)"
    }

    /// The same in any case, with or without the hyphen: `esp32s3`.
    package init?(name: String) {
        let plain = name.uppercased().filter { $0 != "-" }
        guard let chip = Self.allCases.first(where: { "\($0)".uppercased() == plain }) else { return nil }
        self = chip
    }

    /// The addresses at which flash is mapped rather than copied (soc.h of each chip, esptool's targets).
    private var mapped: [Range<UInt32>] {
        switch self {
        case .esp32: [0x3F40_0000..<0x3F80_0000, 0x400D_0000..<0x4040_0000]
        case .esp32s2: [0x3F00_0000..<0x3F3F_0000, 0x4008_0000..<0x40B8_0000]
        case .esp32s3: [0x3C00_0000..<0x3E00_0000, 0x4200_0000..<0x4400_0000]
        case .esp32c3: [0x3C00_0000..<0x3C80_0000, 0x4200_0000..<0x4280_0000]
        case .esp32c2: [0x3C00_0000..<0x3C40_0000, 0x4200_0000..<0x4240_0000]
        case .esp32c6, .esp32h2, .esp32h21: [0x4200_0000..<0x4300_0000]
        case .esp32c5, .esp32c61, .esp32h4: [0x4200_0000..<0x4400_0000]
        case .esp32p4: [0x4000_0000..<0x4C00_0000]
        case .esp32s31: [0x4000_0000..<0x5400_0000]
        case .esp32e22: [0x3C00_0000..<0x4000_0000]
        }
    }

    func maps(_ address: UInt32) -> Bool { mapped.contains { $0.contains(address) } }

    /// The smallest page by which it can map flash, bytes: what is right for any page is right for this one.
    var leastPageBytes: Int {
        switch self {
        case .esp32c6, .esp32c61, .esp32h2, .esp32h21, .esp32h4: 8 << 10
        case .esp32c2: 16 << 10
        case .esp32s31: 32 << 10
        default: 64 << 10
        }
    }

    /// The highest secure version that its eFuses can hold, a bit each (ota.rst, Anti-rollback).
    var highestSecureVersion: UInt32 {
        switch self {
        case .esp32: 32
        case .esp32c2: 4
        case .esp32c5: 9
        default: 16
        }
    }
}
