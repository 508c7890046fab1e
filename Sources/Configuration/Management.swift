extension Configuration {
    /// How much of what was acknowledged outlives the process: `durability`, `durability_topic`.
    package enum Durability: String, Sendable, CaseIterable {
        /// On the disk before the acknowledgement leaves.
        case acknowledged
        /// On the disk at most a second later.
        case relaxed
        /// Never on the disk.
        case memory
    }

    /// `durability_topic FILTER acknowledged|relaxed|memory`.
    package struct TopicDurability: Sendable, Equatable {
        package var filter: String
        package var durability: Durability

        package init(filter: String, durability: Durability) {
            self.filter = filter
            self.durability = durability
        }
    }

    /// `subscribe_denied`: what a SUBSCRIBE gets for a filter that it has no right to.
    package enum DeniedSubscription: String, Sendable, CaseIterable {
        /// The return code 0x80.
        case failure
        /// It is granted, and nothing arrives, as with Mosquitto.
        case silent
    }

    /// The keys that Mosquitto does not have and that only the management of devices, people and firmware reads.
    package struct Management: Sendable, Equatable {
        /// `registration`: who may make an account.
        package enum Registration: String, Sendable, CaseIterable {
            /// Whoever comes from the loopback.
            case local
            /// Everybody.
            case open
            /// Whoever has an invitation.
            case invite
            /// Nobody.
            case closed
        }

        /// `base_url`: how others reach this server, `https://HOST[:PORT]`. Nil (unset): the address they connected to.
        package var baseURL: String?
        /// `registration`, default local.
        package var registration = Registration.local
        /// `cors_origins`: origins beside our own whose pages may call the REST interface. Default: none.
        package var corsOrigins: [String] = []
        /// `trusted_proxies`: addresses and networks whose forwarding headers count. Default: none.
        package var trustedProxies: [String] = []
        /// `jwt_lifetime`: of a log-in, 60 s...366 days, default 24 h.
        package var tokenLifetime = Duration.seconds(24 * 3600)
        /// `login_attempts`: failed log-ins an hour for one account or address before it has to wait, 1...1000,
        /// default 10.
        package var loginAttempts = 10
        /// `max_devices_per_user`: 1...1000000, default 1000.
        package var maxDevicesPerUser = 1000
        /// `firmware_url_ttl`: how long a signed address works, 60 s...366 days, default an hour.
        package var firmwareURLLifetime = Duration.seconds(3600)
        /// `firmware_releases`: of one model that are kept, 0...100000; 0 (the default): all.
        package var firmwareReleases = 0
        /// `firmware_verifier`: a command that also has to approve of an image. Nil (unset): none.
        package var firmwareVerifier: String?
        /// `device_offline_after`: silence after which a device without a connection is offline, 1 s...366 days,
        /// default 60 s.
        package var deviceOfflineAfter = Duration.seconds(60)
        /// `activity_retention`: how long the activity log is kept, 1 h...100 years, default 365 days.
        package var activityRetention = Duration.seconds(365 * 86_400)
        /// `health_retention`: how long health reports are kept, 1 h...100 years, default 30 days.
        package var healthRetention = Duration.seconds(30 * 86_400)

        package init() {}
    }
}
