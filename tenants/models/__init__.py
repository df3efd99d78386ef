"""Tables of tenancy: who pays us, who works there, what their customers are called, and their keys."""

from tenants.models.audit import AuditCheckpoint, AuditEntry, AuditLink
from tenants.models.base import TenantOwned, fresh_id
from tenants.models.idempotency import IdempotentAnswer
from tenants.models.keys import ApiKey, KeyScope
from tenants.models.people import Member, Role, User
from tenants.models.tenancy import Customer, EndUser, Project, Tenant, UnknownModel

__all__ = [
    "ApiKey",
    "AuditCheckpoint",
    "AuditEntry",
    "AuditLink",
    "Customer",
    "EndUser",
    "IdempotentAnswer",
    "KeyScope",
    "Member",
    "Project",
    "Role",
    "Tenant",
    "TenantOwned",
    "UnknownModel",
    "User",
    "fresh_id",
]
