"""The operators' view of tenancy: to look things up. Changes go through the services, which audit and publish."""

from tenants.admin import people as people
from tenants.admin import tenancy as tenancy
from tenants.admin.base import ReadOnlyAdmin as ReadOnlyAdmin
