"""The operators' view of budgets, prices and the money path: to look things up. Changes go through services."""

from budgets.admin import budgets as budgets
from budgets.admin import prices as prices
from budgets.admin import runs as runs
