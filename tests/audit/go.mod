module tenants

go 1.21
