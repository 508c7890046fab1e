internal import ArgumentParser
internal import JSON
internal import Management

/// `martlet user ...`
struct UserCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "user", abstract: "People who sign in with e-mail and password.",
        subcommands: [
            Add.self, List.self, Block.self, Password.self, Role.self, Remove.self, Invite.self, Invites.self,
            Uninvite.self,
        ])

    /// How a password is chosen.
    struct PasswordOptions: ParsableArguments {
        @Flag(name: .customLong("password-stdin"), help: "Read the password from standard input, one line.")
        var fromStandardInput = false

        @Flag(name: .customLong("generate"), help: "Make a password and show it.")
        var isGenerated = false

        func validate() throws {
            guard !(fromStandardInput && isGenerated) else {
                throw ValidationError("--password-stdin and --generate exclude each other")
            }
        }

        /// Nil: one is to be made.
        func choose(for user: String) throws(Failure) -> JSONValue {
            if isGenerated { return .null }
            if fromStandardInput { return .string(try PasswordPrompt.readStandardInput()) }
            return .string(try PasswordPrompt.ask(for: user))
        }
    }

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Add somebody.")

        @Argument(help: "Their e-mail address.") var email: String
        @Flag(help: "They may do everything.") var admin = false
        @Option(help: "Their name.") var name: String?
        @OptionGroup var password: PasswordOptions
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            let chosen = try password.choose(for: email)
            try await managing(data.path, makesDirectory: true) { client in
                let answer = try await client.perform(
                    "registerUser",
                    [
                        "email": .string(email), "name": .optional(name), "password": chosen,
                        "role": .string(admin ? "admin" : "user"),
                    ])
                if json { return ManagementOutput.print(answer.text) }
                ManagementOutput.print("added \(answer["user"]?["email"]?.string ?? email)")
                if let made = answer["password"]?.string {
                    ManagementOutput.print("password  \(made)\nThe password is shown this once.")
                }
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List people.")

        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                ManagementOutput.print(
                    try await client.list("listUsers", "users"), json: json,
                    columns: [
                        ("E-MAIL", "email"), ("NAME", "name"), ("ROLE", "role"), ("BLOCKED", "blocked"),
                        ("CREATED", "createdAt"),
                    ])
            }
        }
    }

    struct Block: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shut somebody out, at once.")

        @Argument(help: "Their e-mail address.") var email: String
        @Flag(help: "Let them in again.") var unblock = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                try await client.perform("blockUser", ["email": .string(email), "blocked": .bool(!unblock)])
            }
        }
    }

    struct Password: AsyncParsableCommand {
        static let configuration = CommandConfiguration(commandName: "passwd", abstract: "Set somebody's password.")

        @Argument(help: "Their e-mail address.") var email: String
        @OptionGroup var password: PasswordOptions
        @OptionGroup var data: DataOption

        func run() async throws {
            let chosen = try password.choose(for: email)
            try await managing(data.path) { client in
                let answer = try await client.perform(
                    "setUserPassword", ["email": .string(email), "password": chosen])
                if let made = answer["password"]?.string {
                    ManagementOutput.print("password  \(made)\nThe password is shown this once.")
                }
            }
        }
    }

    struct Role: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Say what somebody is: user or admin.")

        @Argument(help: "Their e-mail address.") var email: String
        @Argument(help: "user or admin.") var role: String
        @OptionGroup var data: DataOption

        func validate() throws {
            guard ["user", "admin"].contains(role) else { throw ValidationError("a role is 'user' or 'admin'") }
        }

        func run() async throws {
            try await managing(data.path) { client in
                try await client.perform("setUserRole", ["email": .string(email), "role": .string(role)])
            }
        }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove somebody; their devices stay.")

        @Argument(help: "Their e-mail address.") var email: String
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                try await client.perform("deleteUser", ["email": .string(email)])
            }
        }
    }

    struct Invite: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let somebody make an account for themselves; prints a code, once.")

        @Option(help: "For this e-mail address only.") var email: String?
        @Flag(help: "They may do everything.") var admin = false
        @Option(help: "How long it counts, 1 to 90.") var days = 7
        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func validate() throws {
            guard (1...90).contains(days) else { throw ValidationError("--days takes 1 to 90") }
        }

        func run() async throws {
            try await managing(data.path, makesDirectory: true) { client in
                let answer = try await client.perform(
                    "createInvite",
                    [
                        "email": .optional(email), "role": .string(admin ? "admin" : "user"),
                        "expiresIn": .integer(Int64(days) * 86_400),
                    ])
                if json { return ManagementOutput.print(answer.text) }
                let lines = [
                    "code   \(answer["code"]?.string ?? "")", "until  \(answer["invite"]?["expiresAt"]?.string ?? "")",
                    "The code is shown this once, and counts once: as 'inviteCode' of POST /api/auth/register.",
                ]
                ManagementOutput.print(lines.joined(separator: "\n"))
            }
        }
    }

    struct Invites: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List invites; those that were used, or are over, until a month later.")

        @Flag(help: "Print JSON.") var json = false
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                ManagementOutput.print(
                    try await client.list("listInvites", "invites"), json: json,
                    columns: [
                        ("INVITE", "id"), ("FOR", "email"), ("ROLE", "role"), ("BY", "createdBy"),
                        ("UNTIL", "expiresAt"),
                        ("USED BY", "usedBy"),
                    ])
            }
        }
    }

    struct Uninvite: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Call an invite back.")

        @Argument(help: "Its id, as 'martlet user invites' shows it.") var invite: String
        @OptionGroup var data: DataOption

        func run() async throws {
            try await managing(data.path) { client in
                try await client.perform("deleteInvite", ["inviteId": .string(invite)])
            }
        }
    }
}
