module cgoprofile

go 1.19
